"""Fields of the job's form that take what people write: `5m`, words as in a shell, one variable a line."""

from __future__ import annotations

import re
import shlex
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from jobs.execution import script_paths

_UNITS = {"d": 86400, "h": 3600, "m": 60, "min": 60, "s": 1, "": 1}
_PART = re.compile(r"(\d{1,9})\s*(d|h|min|m|s|)", re.ASCII)
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+", re.ASCII)
_SCHEDULES = (
    ("*/5 * * * *", "every 5 minutes"),
    ("@hourly", "at the start of each hour"),
    ("30 2 * * *", "each night at 02:30"),
    ("0 9 * * 1-5", "on workdays at 09:00"),
    ("@weekly", "Sunday at midnight"),
    ("@monthly", "the first of each month"),
)


class Offers(forms.TextInput):
    """A text input with values to choose from, each with words about it; others can be typed."""

    template_name = "admin/jobs/offers.html"

    def offers(self) -> list[tuple[str, str]]:
        return []

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        context["widget"]["attrs"]["list"] = f"{name}-offers"
        return {**context, "offers": self.offers()}


class ScriptInput(Offers):
    """The scripts that are there, each with its path and when it was changed."""

    def offers(self) -> list[tuple[str, str]]:
        return [
            (path.name, f"{path.parent}, changed {changed:%Y-%m-%d %H:%M} UTC")
            for path, changed in script_paths.list_scripts()
        ]


class ScheduleInput(Offers):
    """Usual schedules."""

    def offers(self) -> list[tuple[str, str]]:
        return list(_SCHEDULES)


class Typed(forms.CharField):
    """A text that stands for a value of another kind; it has changed when the value has."""

    def __init__(self, **options: Any) -> None:
        options.pop("encoder", None)
        options.pop("decoder", None)
        for name in ("min_value", "max_value"):
            options.pop(name, None)
        super().__init__(**{**options, "required": False})

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(initial) != self.to_python(data))
        except ValidationError:
            return True


class DurationField(Typed):
    """Seconds, written as `90`, `5m`, `1h 30m` or `2d`."""

    def prepare_value(self, value: Any) -> Any:
        return short_duration(value) if isinstance(value, int) else value

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, int):
            return value
        text = str(value).strip().lower()
        if not text:
            return None
        if not _DURATION.fullmatch(text):
            raise ValidationError("Write a duration such as 90s, 5m, 1h 30m or 2d.")
        return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def short_duration(seconds: int) -> str:
    """Return seconds as DurationField reads them, in the largest units that are exact: `1h 30m`."""
    if not seconds:
        return "0"
    parts, rest = [], seconds
    for unit in ("d", "h", "m", "s"):
        if rest >= _UNITS[unit]:
            parts.append(f"{rest // _UNITS[unit]}{unit}")
            rest %= _UNITS[unit]
    return " ".join(parts)


class WordsField(Typed):
    """A list of texts, written as words in a shell."""

    def prepare_value(self, value: Any) -> Any:
        return shlex.join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, list):
            return value or []
        try:
            return shlex.split(str(value))
        except ValueError as error:
            raise ValidationError(f"It can't be read as words of a shell: {error}.") from None


class PairsField(Typed):
    """Variables, one `NAME=value` on each line."""

    widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, dict):
            return value or {}
        pairs = {}
        for number, line in enumerate(str(value).replace("\r\n", "\n").split("\n"), 1):
            if not line.strip():
                continue
            name, equals, text = line.partition("=")
            if not equals:
                raise ValidationError(f"Line {number} is not NAME=value.")
            pairs[name.strip()] = text
        return pairs


class NamesField(Typed):
    """A list of names, between blanks or on lines of their own."""

    widget = forms.Textarea(attrs={"rows": 2, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, list):
            return value or []
        return str(value).split()
