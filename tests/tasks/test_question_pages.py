"""Questions on the operators' pages, asked for without a browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from core.callers import Caller, Role
from jobs.models import AlertKind, RaisedAlert
from ops import problems
from ops.alerts.watch import Watch
from ops.demo import make_fleet
from tasks.models import Question
from tasks.questions.services import answer_question, ask
from tasks.services import cancel_task, create_task
from tests.support.pages import text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("seeded")]
AGENT = Caller("key:agent", Role.OPERATOR)
LIST = "/admin/tasks/question/"


@pytest.fixture
def number() -> int:
    return create_task(fields={"name": "Clean up"}, actor=None).pk


def asked(number: int, words: str = "May I <b>delete</b> it?", *choices: str) -> Question:
    return ask(task_id=number, text=words, choices=choices, actor="agent-7", caller=AGENT)[0]


def page_of(question: Question) -> str:
    return f"{LIST}{question.pk}/change/"


def answer(client: Client, question: Question, page: str, **fields: str) -> str:
    """Send an answer from a page; return what is said on the page that comes next."""
    response = client.post(f"{LIST}{question.pk}/answer/", fields, HTTP_REFERER=f"http://testserver{page}", follow=True)
    assert response.redirect_chain == [(f"http://testserver{page}", 302)]
    [said] = re.findall(r'<ul class="messagelist">(.*?)</ul>', response.content.decode(), re.S)
    return str(said)


def test_a_question_is_answered_where_it_is_shown(operator_client: Client, number: int) -> None:
    pages = [LIST, f"/admin/tasks/task/{number}/change/"]
    for page in pages:
        question = asked(number, f"May I <b>delete</b> it? {page}", "Approve", "Reject")
        shown = text(operator_client, page)
        assert "May I &lt;b&gt;delete&lt;/b&gt; it?" in shown
        assert f'id="choice-{question.pk}-1" name="choice" value="Approve"' in shown
        assert "is answered: Approve" in answer(operator_client, question, page, choice="Approve")
        question.refresh_from_db()
        assert (question.answer, question.answered_by) == ("Approve", "olga")
        assert f'id="choice-{question.pk}-1"' not in text(operator_client, page)
    own = asked(number)
    assert "is answered" in answer(operator_client, own, page_of(own), answer="Only the\r\nold rows")
    own.refresh_from_db()
    assert own.answer == "Only the\nold rows"
    assert "Answered by olga" in text(operator_client, page_of(own))


def test_of_two_operators_the_second_is_told_who_answered(operator_client: Client, number: int) -> None:
    question = asked(number, "Go on?", "Approve", "Reject")
    answer_question(question_id=question.pk, answer="Reject", actor="anna", caller=Caller("anna", Role.OPERATOR))
    said = answer(operator_client, question, LIST, answer="Only on Sunday")
    assert f"Question {question.pk} was answered by anna already" in said
    assert "You wrote: Only on Sunday" in said
    assert "“Reject”" in said
    assert "is answered" in answer(operator_client, question, LIST, choice="Reject"), "it is what both want"


def test_an_answer_that_is_empty_or_late_is_refused_in_a_sentence(operator_client: Client, number: int) -> None:
    question = asked(number)
    assert "Answer is required." in answer(operator_client, question, page_of(question), answer=" ")
    cancel_task(task_id=number, actor=None)
    assert "was withdrawn" in answer(operator_client, question, page_of(question), answer="x")
    assert "withdrawn" in text(operator_client, page_of(question))
    assert operator_client.post(f"{LIST}4711/answer/", {"answer": "x"}).status_code == 404
    assert operator_client.get(f"{LIST}{question.pk}/answer/").status_code == 405
    assert operator_client.get(f"{LIST}x/change/").status_code == 404


def test_who_only_looks_sees_no_form_and_answers_nothing(number: int) -> None:
    question = asked(number)
    viewer = User.objects.create_user("viktor", is_staff=True)
    viewer.groups.set([viewer.groups.model.objects.get(name="Viewers")])
    client = Client()
    client.force_login(viewer)
    for page in (LIST, page_of(question), f"/admin/tasks/task/{number}/change/"):
        shown = text(client, page)
        assert "May I &lt;b&gt;delete" in shown
        assert f'id="answer-{question.pk}"' not in shown
    assert client.post(f"{LIST}{question.pk}/answer/", {"answer": "x"}).status_code == 403
    nobody = User.objects.create_user("nina", is_staff=True)
    client.force_login(nobody)
    assert client.get(page_of(question)).status_code == 403


def test_the_sidebar_has_the_number_of_open_questions(operator_client: Client, number: int) -> None:
    assert re.search(r'id="question-count"[^>]* hidden', text(operator_client, "/admin/"))
    asked(number)
    for page in ("/admin/", "/admin/jobs/job/"):
        assert re.search(r'id="question-count" class="[^"]*"><span>1</span>', text(operator_client, page)), page
    assert 'data-questions="1"' in text(operator_client, "/admin/live/frame/")


def test_the_list_is_searched_and_filtered(operator_client: Client, number: int) -> None:
    answered, waiting = asked(number, "Which colour?"), asked(number, "Which size?")
    answer_question(question_id=answered.pk, answer="Green", actor="anna", caller=None)

    def rows(query: str) -> list[int]:
        return [row.pk for row in operator_client.get(f"{LIST}?{query}").context["cl"].result_list]

    assert rows("") == [waiting.pk, answered.pk]
    assert rows("state=open") == [waiting.pk]
    assert rows("q=green") == [answered.pk]
    assert rows(f"q=T{number}") == [waiting.pk, answered.pk]
    assert rows("q=T99") == []


def test_search_leads_to_a_question(operator_client: Client, number: int) -> None:
    question = asked(number, "Which colour shall the shed have?")
    for query in (f"question {question.pk}", f"Question{question.pk}", "colour"):
        found = operator_client.get("/admin/palette/", {"q": query}).content.decode()
        assert f'"{page_of(question)}"' in found, query


def test_an_open_question_is_alerted_and_over_with_its_answer(operator_client: Client, number: int) -> None:
    question = asked(number, "Go on?\nOr not?")
    Watch().tick()
    alert = RaisedAlert.objects.get(kind=AlertKind.QUESTION)
    assert (alert.title, alert.path) == (f"T{number} asks: Go on? Or not?", page_of(question))
    assert f'href="{page_of(question)}"' in text(operator_client, "/admin/")
    answer_question(question_id=question.pk, answer="Yes", actor="anna", caller=None)
    Watch().tick()
    alert.refresh_from_db()
    assert alert.resolved_at is not None
    assert not [each for each in problems.findings(alert.resolved_at) if each.check == "questions"]


def test_many_open_questions_are_one_more_problem(number: int, settings: Any) -> None:
    settings.OPEN_QUESTIONS = 30
    for count in range(22):
        asked(number, f"Question {count}")
    keys = [each.key for each in problems.findings(Question.objects.all()[0].asked_at) if each.check == "questions"]
    assert len(keys) == 21
    assert "questions" in keys


def test_the_demo_has_open_and_answered_questions(operator_client: Client) -> None:
    make_fleet(runs_a_job=1)
    states = {question.state for question in Question.objects.all()}
    assert states == {"open", "answered"}
    assert "sessions_old" in text(operator_client, LIST)
