"""The operator's form for a task: what it takes is judged by the same schema as REST's bodies."""

from __future__ import annotations

import re
from typing import Any

from django import forms

from core.conflicts import ConflictAwareForm
from core.errors import Invalid
from core.rest import validate
from core.text import as_sentence
from core.timestamps import whole_seconds
from tasks.models import Status, Task, TaskEvent, read_repos
from tasks.schemas import NewTask, TaskChanges

TYPES = ("research", "swe", "qa", "system", "image-gen")
PRIORITIES = ("critical", "high", "normal", "low")
_MINUTES = re.compile(r"\s*\d{1,9}\s*", re.ASCII)
_REPO = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?", re.ASCII)


class Suggestions(forms.TextInput):
    """A text input that offers known values and takes others."""

    template_name = "admin/tasks/suggestions.html"

    def __init__(self, values: tuple[str, ...]) -> None:
        super().__init__(attrs={"class": "vTextField"})
        self.values = values

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        context["widget"]["attrs"]["list"] = f"{name}-suggestions"
        return {**context, "suggestions": self.values}


class AsStored(forms.CharField):
    """Text that counts as changed only when a person changed it: browsers rewrite line ends on their way."""

    widget = forms.TextInput(attrs={"class": "vTextField"})

    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, required=options.pop("required", False), **options)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self._as_sent(initial) != self._as_sent(data)

    def to_python(self, value: Any) -> Any:
        return (super().to_python(value) or "").replace("\r\n", "\n")

    def _as_sent(self, value: Any) -> str:
        text = "" if value is None else str(value).replace("\r\n", "\n").replace("\r", "\n")
        return text if isinstance(self.widget, forms.Textarea) else text.replace("\n", "")


class StoredTime(AsStored):
    """A time in whole seconds, as the tables of old and new versions hold it in many forms."""

    def prepare_value(self, value: Any) -> Any:
        return whole_seconds(value) or value

    def _as_sent(self, value: Any) -> str:
        return super()._as_sent(self.prepare_value(value))


def _lines(rows: int) -> forms.Textarea:
    return forms.Textarea(attrs={"class": "vLargeTextField", "rows": rows})


_TIME_HELP = "UTC, for example 2026-02-16 12:00:00; any other ISO 8601 time is kept as written."


class TaskForm(ConflictAwareForm[Task]):
    """Fields that a person left alone are not judged and not written, whatever an old file holds in them."""

    name = AsStored(required=True, help_text="What is to be done, in a line.")
    body = AsStored(
        label="What it is about",
        widget=_lines(10),
        help_text="Markdown. It becomes the task's note, which its agent reads.",
    )
    slug = AsStored(help_text="A short name for its agent. Empty: made of the name. It can't be changed later.")
    type = AsStored(
        initial="swe", widget=Suggestions(TYPES), required=True, help_text="The kind of work; agents claim by it."
    )
    status = forms.ChoiceField(choices=Status.choices)
    priority = AsStored(initial="normal", widget=Suggestions(PRIORITIES), required=True)
    model = AsStored(help_text="The model that its agent is asked to use. Empty: the agent decides.")
    assigned_to = AsStored(help_text="The agent that works on it. Empty: nobody yet.")
    repos = AsStored(label="Repositories", widget=_lines(3), help_text="One repository per line, as owner/name.")
    discord_thread_id = AsStored(label="Discord thread id", help_text="A thread about it, if there is one.")
    estimate_minutes = AsStored(
        label="Estimate (minutes)",
        widget=forms.TextInput(attrs={"inputmode": "numeric"}),
        help_text="After twice as long it counts as stuck.",
    )
    requires_qa = forms.BooleanField(
        required=False, label="Requires QA", help_text="Another agent is to check the result."
    )
    workflow = AsStored(widget=_lines(4), help_text="How its agent is to go about it; kept as written.")
    assigned_at = StoredTime(help_text=_TIME_HELP)
    completed_at = StoredTime(help_text=_TIME_HELP)

    class Meta:
        model = Task
        fields = ()  # the fieldsets of the admin name them

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk:
            del self.fields["body"]  # from then on the vault has it
        repos = read_repos(self.initial.get("repos"))
        if repos is not None:
            self.initial["repos"] = "\n".join(repos)
        if "status" in self.fields and self.instance.pk and self.instance.status not in Status.values:
            stored = str(self.instance.status)
            choices = [(stored, f"{stored or 'empty'} (not a known status)"), *Status.choices]
            self.fields["status"] = forms.ChoiceField(choices=choices, required=False)
            self.fields["status"].show_hidden_initial = True

    def clean(self) -> dict[str, Any]:
        schema = TaskChanges if self.instance.pk else NewTask
        for name, value in self.changes().items():
            try:
                self._check_as_typed(name, value)
                validate(schema, {name: value})
            except Invalid as error:
                sentence = str(error).removeprefix(f"{name} ")
                self.add_error(name, as_sentence(sentence))
        self.check_conflicts()
        return self.cleaned_data

    def last_editor(self) -> str:
        event = TaskEvent.objects.filter(task=self.instance).order_by("-id").first()
        return (event.caller or event.actor or "") if event else ""

    def changes(self) -> dict[str, Any]:
        """Return what the person changed, as REST would send it; for a new task what was filled in."""
        sent: dict[str, Any] = {}
        for name in self.fields:
            if name not in self.cleaned_data or (self.instance.pk and name not in self.changed_data):
                continue
            value = self.cleaned_data[name]
            if name == "repos":
                value = [line.strip() for line in value.splitlines() if line.strip()] or None
            elif value == "":
                value = None
            sent[name] = value
        return sent

    def validated(self) -> dict[str, Any]:
        """Return the changes as the services take them; call it on a valid form."""
        sent = self.changes()
        body = validate(TaskChanges if self.instance.pk else NewTask, sent)
        return {name: getattr(body, name, value) for name, value in sent.items()}

    def _post_clean(self) -> None:
        """Leave the instance as it was read: the services write, and only what changed."""

    @staticmethod
    def _check_as_typed(name: str, value: Any) -> None:
        if name == "name" and not (value or "").strip():
            raise Invalid("name must not be empty")
        if name == "estimate_minutes" and value is not None and not _MINUTES.fullmatch(value):
            raise Invalid("estimate_minutes must be a whole number, 0 or more")
        wrong = [line for line in value or () if not _REPO.fullmatch(line)] if name == "repos" else []
        if wrong:
            raise Invalid(f"repos {wrong[0][:100]!r} is not a repository such as owner/name")
