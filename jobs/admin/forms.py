"""The form of a job in the admin: it refuses at the field what could not work."""

from __future__ import annotations

from typing import Any

from django import forms

from core.errors import LobwifeError
from jobs import secret_fields, services
from jobs.execution import script_paths
from jobs.models import Job

_ONE_LINE = ("name", "description", "script", "schedule", "timezone", "working_directory", "ping_url")


class JobForm(forms.ModelForm[Job]):
    """Secret URLs are shown masked; a line left as it is keeps what is stored."""

    class Meta:
        model = Job
        fields = ["name", *services.DEFINITION]
        widgets = {
            **{name: forms.TextInput(attrs={"class": "vTextField"}) for name in _ONE_LINE},
            **{name: forms.Textarea(attrs={"rows": 3}) for name in ("arguments", "environment", "alert_urls")},
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stored = {name: str(getattr(self.instance, name)) for name in secret_fields.FIELDS}
        for name in secret_fields.FIELDS:
            self.initial[name] = secret_fields.masked(self.stored[name])

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        for name in secret_fields.FIELDS:
            if name in data:
                data[name] = secret_fields.unmasked(data[name], self.stored[name])
        for name in ("arguments", "environment"):  # an emptied box
            if name in data and data[name] is None:
                data[name] = Job._meta.get_field(name).get_default()  # type: ignore[union-attr]
        return data

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        problems = services.problems_of(self.instance)
        if "script" not in problems and "script" in self.cleaned_data:
            try:
                script_paths.find_script(self.instance.script)
            except LobwifeError as error:
                problems["script"] = str(error)
        for name, reason in problems.items():
            if name in self.fields and name not in self.errors:
                self.add_error(name, _sentence(reason))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
