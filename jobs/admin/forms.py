"""The form of a job in the admin: it refuses at the field what could not work."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms

from core.conflicts import ConflictAwareForm
from core.errors import LobwifeError
from jobs import change_log, secret_fields, secrets, services
from jobs.execution import script_paths
from jobs.models import Job, Secret

_ONE_LINE = ("name", "description", "script", "schedule", "timezone", "working_directory", "ping_url")


class JobForm(ConflictAwareForm[Job]):
    """Secret URLs are shown masked; a line left as it is keeps what is stored."""

    class Meta:
        model = Job
        fields = ["name", *services.DEFINITION]
        widgets = {
            **{name: forms.TextInput(attrs={"class": "vTextField"}) for name in _ONE_LINE},
            **{
                name: forms.Textarea(attrs={"rows": 3})
                for name in ("arguments", "environment", "secrets", "alert_urls")
            },
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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
                self.add_error(name, _sentence(reason))


class WriteOnly(forms.Textarea):
    """A box that never shows a value, not even one that was refused."""

    def format_value(self, value: Any) -> str:
        return ""


class SecretForm(forms.ModelForm[Secret]):
    value = forms.CharField(
        widget=WriteOnly(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false"}),
        strip=False,
        help_text="Nobody can read it back. Of several lines each is masked in output.",
    )

    class Meta:
        model = Secret
        fields = ["name"]
        widgets: ClassVar = {"name": forms.TextInput(attrs={"class": "vTextField"})}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
