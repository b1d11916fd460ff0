"""The questions of agents in the admin: the open ones to be answered, all of them as a list."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.views.decorators.http import require_POST

from core.callers import operator_of
from core.display import ReadOnlyAdmin, badge, previous_page, when
from core.errors import LobwifeError, NotFound
from core.text import as_sentence
from tasks.ids import parse_typed_id
from tasks.models import Question, Task
from tasks.questions import queries, services

_MOST_OPEN = 50
_LONGEST_TEXT = 120


class StateFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "state"
    conditions: ClassVar = {
        "open": {"answered_at__isnull": True, "withdrawn_at__isnull": True},
        "answered": {"answered_at__isnull": False},
        "withdrawn": {"answered_at__isnull": True, "withdrawn_at__isnull": False},
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in self.conditions]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Question]) -> QuerySet[Question]:
        return queryset.filter(**self.conditions.get(self.value() or "", {}))


@admin.register(Question)
class QuestionAdmin(ReadOnlyAdmin):
    list_display = ("number", "what", "of_task", "state", "reply", "asked")
    list_display_links = ("number", "what")
    change_list_template = "admin/tasks/question_list.html"
    empty_text = "Agents ask with lobwife-agent ask, by MCP, or with POST /api/v1/tasks/{id}/questions."
    list_filter = (StateFilter,)
    search_fields = ("text", "answer", "asked_by", "answered_by")
    search_help_text = "By task (T42), question, answer or who asked or answered"
    show_full_result_count = False
    list_per_page = 50

    class Media:
        css: ClassVar = {"all": ["tasks/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        answer = self.admin_site.admin_view(self.answer_view)
        return [path("<int:pk>/answer/", answer, name="tasks_question_answer"), *super().get_urls()]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Question], search_term: str
    ) -> tuple[QuerySet[Question], bool]:
        number = parse_typed_id(search_term)
        if number is not None:
            return queryset.filter(task_id=number), False
        return super().get_search_results(request, queryset, search_term)

    @method_decorator(require_POST)
    def answer_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Take an answer: the button that was pressed, or the text; who comes second is told who was first."""
        if not may_answer(request):
            raise PermissionDenied
        answer = request.POST.get("choice") or request.POST.get("answer", "").replace("\r\n", "\n")
        caller = operator_of(request)
        try:
            question = services.answer_question(question_id=pk, answer=answer, actor=caller.identity, caller=caller)
        except NotFound as error:
            raise Http404(str(error)) from None
        except LobwifeError as error:
            own = f" You wrote: {answer}" if request.POST.get("answer") else ""
            messages.error(request, f"{as_sentence(str(error))}{own}")
        else:
            messages.success(
                request, f"Question {pk} is answered: {Truncator(question.answer or '').chars(_LONGEST_TEXT)}"
            )
        return redirect(previous_page(request, reverse("admin:tasks_question_change", args=[pk])))

    # --- pages
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the questions that wait for an answer above the list of all."""
        questions = list(Question.objects.open().order_by("id")[: _MOST_OPEN + 1])
        context = {
            "open_questions": with_tasks(questions[:_MOST_OPEN]),
            "has_more_open": len(questions) > _MOST_OPEN,
            "may_answer": may_answer(request),
        }
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show one question, with the form for its answer while it is open."""
        question = self.get_object(request, object_id)
        if question is None:
            raise Http404(f"Question {object_id[:_LONGEST_TEXT]} not found")
        if not self.has_view_permission(request, question):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            **{
                "title": f"Question {question.pk} of T{question.task_id}",
                "opts": self.opts,
                "original": question,
                "media": self.media,
            },
            **{"each": with_tasks([question])[0], "may_answer": may_answer(request)},
        }
        return TemplateResponse(request, "admin/tasks/question_view.html", context)

    # --- columns
    @admin.display(description="id", ordering="id")
    def number(self, question: Question) -> int:
        return question.pk

    @admin.display(description="question", ordering="text")
    def what(self, question: Question) -> str:
        return Truncator(question.text).chars(_LONGEST_TEXT)

    @admin.display(description="task", ordering="task_id")
    def of_task(self, question: Question) -> SafeString:
        url = reverse("admin:tasks_task_change", args=[question.task_id])
        return format_html('<a href="{}">T{}</a>', url, question.task_id)

    @admin.display
    def state(self, question: Question) -> SafeString:
        return badge(question.state)

    @admin.display(description="answer")
    def reply(self, question: Question) -> str:
        if question.answer is None:
            return "–"
        return f"{Truncator(question.answer).chars(_LONGEST_TEXT)} ({question.answered_by})"

    @admin.display(description="asked", ordering="asked_at")
    def asked(self, question: Question) -> SafeString | str:
        return when(question.asked_at)


def may_answer(request: HttpRequest) -> bool:
    """Return whether the user may answer questions."""
    return request.user.has_perm("tasks.change_question")


def with_tasks(questions: list[Question]) -> list[dict[str, Any]]:
    """Return questions as their template shows them: each with its task."""
    tasks = Task.objects.in_bulk([question.task_id for question in questions])
    return [{"question": question, "task": tasks.get(question.task_id)} for question in questions]


def of_task(task: Task) -> dict[str, Any]:
    """Return what the page of a task shows: its open questions, and those that are not."""
    questions = queries.questions_of(task.pk)
    return {
        "open_questions": [question for question in questions if question.is_open],
        "closed_questions": [question for question in reversed(questions) if not question.is_open],
    }
