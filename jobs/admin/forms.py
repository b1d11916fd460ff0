"""The form of a job in the admin: it refuses at the field what could not work."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms

from core.conflicts import ConflictAwareForm
from core.errors import LobwifeError
from core.text import as_sentence
from events import change_log
from jobs import secret_fields, secrets, services
from jobs.admin.fields import DurationField, NamesField, PairsField, ScheduleInput, ScriptInput, WordsField
from jobs.execution import script_paths
from jobs.models import Job, Secret

_ONE_LINE = ("name", "description", "timezone", "working_directory", "runs_on", "ping_url")
_HELP = {
    "name": "Letters, digits, dots, dashes, underscores. It can't be changed later.",
    "description": "What it is for, in a line.",
    "timezone": "Such as Europe/Berlin. The schedule is read in it.",
    "working_directory": "Empty: the home directory of the service.",
    "runs_on": "The label of the runners that execute it (manage.py runner --labels gpu). Empty: the daemons do.",
    "concurrency": "When it is due and its last run is not over.",
    "max_parallel": "How many of its runs may run at once.",
    "misfire": "What was due while the daemon was down or starts were paused.",
    "misfire_max": "At most so many of them.",
    "retries": "How often a failed run is tried again. 0: never.",
    "ping_url": "A watchdog outside, such as healthchecks.io: it is called at the start, at success and at failure.",
    "alert_urls": (
        "One a line, beside those for all jobs: discord://ID/TOKEN, slack://A/B/C/#channel, ntfy://topic, "
        "mailto://user:password@host. The page Alerts has more, and sends a test."
    ),
}
_DURATIONS = {
    "timeout_seconds": "After so long it is ended: 5m, 1h 30m.",
    "start_deadline_seconds": "What could not start so long after it was due is skipped. Empty: never.",
    "retry_delay_seconds": "Before the first retry; doubled before each further one.",
    "retry_delay_max_seconds": "The longest that is waited before a retry.",
    "late_after_seconds": "Alert when it has not started so long after it was due. Empty: never.",
    "long_after_seconds": "Alert when it takes longer. Empty: never.",
}
_REQUIRED_DURATIONS = ("timeout_seconds", "retry_delay_seconds", "retry_delay_max_seconds")
_DURATION_LABELS = {
    "timeout_seconds": "Time limit",
    "start_deadline_seconds": "Start deadline",
    "retry_delay_seconds": "Retry after",
    "retry_delay_max_seconds": "Retry after at most",
    "late_after_seconds": "Late after",
    "long_after_seconds": "Too long after",
}


class JobForm(ConflictAwareForm[Job]):
    """Secret URLs are shown masked; a line left as it is keeps what is stored."""

    arguments = WordsField(
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
        help_text="Words as in a shell: --since 'two days' --full",
    )
    environment = PairsField(help_text="One NAME=value on each line; no secrets.")
    secrets = NamesField(help_text="Names of secrets that the script gets as variables: NAME, or VARIABLE=NAME.")

    class Meta:
        model = Job
        fields = ["name", *services.DEFINITION]
        help_texts = _HELP
        labels: ClassVar = {"ping_url": "Watchdog", "alert_urls": "Also alert"}
        widgets = {
            **{name: forms.TextInput(attrs={"class": "vTextField"}) for name in _ONE_LINE},
            "script": ScriptInput(attrs={"class": "vTextField"}),
            "schedule": ScheduleInput(attrs={"class": "vTextField"}),
            "alert_urls": forms.Textarea(attrs={"rows": 3}),
        }
        field_classes: ClassVar = dict.fromkeys(_DURATIONS, DurationField)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in _DURATIONS.keys() & self.fields.keys():
            field = self.fields[name]
            field.help_text, field.label = _DURATIONS[name], _DURATION_LABELS[name]
            field.required = name in _REQUIRED_DURATIONS
            field.widget = forms.TextInput(attrs={"size": 8, "placeholder": "5m"})
        self.stored = {name: getattr(self.instance, name) for name in secret_fields.FIELDS}
        for name, value in self.stored.items():
            self.initial[name] = secret_fields.masked(name, value)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        self.check_conflicts()
        for name in self.fields:
            if self.instance.pk and name in data and name not in self.changed_data:
                data[name] = getattr(self.instance, name)
        for name in secret_fields.URLS:
            if name in data and name in self.changed_data:
                data[name] = secret_fields.unmasked(data[name], self.stored[name])
        for name in ("arguments", "environment", "secrets"):  # an emptied box
            if name in data and data[name] is None:
                data[name] = Job._meta.get_field(name).get_default()  # type: ignore[union-attr]
        return data

    def last_editor(self) -> str:
        return change_log.last_editor(self.instance)

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        problems = services.problems_of(self.instance)
        if "script" not in problems and "script" in self.cleaned_data:
            try:
                script_paths.find_script(self.instance.script)
            except LobwifeError as error:
                problems["script"] = str(error)
        if "secrets" not in problems and (missing := secrets.missing(self.instance.secrets)):
            problems["secrets"] = f"there is no secret {' or '.join(missing)}: make it first, under Secrets"
        for name, reason in problems.items():
            if name in self.fields and name not in self.errors:
                self.add_error(name, as_sentence(reason))


class WriteOnly(forms.Textarea):
    """A box that never shows a value, not even one that was refused."""

    def format_value(self, value: Any) -> str:
        return ""


class SecretForm(forms.ModelForm[Secret]):
    value = forms.CharField(
        widget=WriteOnly(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false"}),
        strip=False,
        help_text="Nobody can read it back. If it has several lines, each is masked in output.",
    )

    class Meta:
        model = Secret
        fields = ["name"]
        widgets: ClassVar = {"name": forms.TextInput(attrs={"class": "vTextField"})}
