"""No lost updates: a form carries what its page showed, and says who changed the same field meanwhile."""

from __future__ import annotations

from typing import Any, TypeVar

from django import forms
from django.db.models import Model

Row = TypeVar("Row", bound=Model)
_LONGEST_VALUE = 100


class ConflictAwareForm(forms.ModelForm[Row]):
    """A form for a row that others may change while somebody types.

    A field that the person left alone keeps what the row has by now. One that both changed is an error at that field,
    which names who it was and keeps the text; saved again, it overwrites. Call `check_conflicts` in `clean`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for field in self.fields.values():
            field.show_hidden_initial = bool(self.instance.pk)

    def last_editor(self) -> str:
        """Return who changed the row last; empty when a form has no way to know."""
        return ""

    def check_conflicts(self) -> None:
        """Add an error for each field that somebody else changed too."""
        conflicts = [name for name in self.changed_data if self._was_changed_meanwhile(name)]
        if not conflicts:
            return
        editor = self.last_editor() or "Somebody"
        sent: Any = self.data
        data = sent.copy()
        for name in conflicts:
            bound = self[name]
            current = bound.field.prepare_value(bound.initial)
            data[bound.html_initial_name] = "" if current is None else str(current)  # the page shows it now
            sentence = f"{editor} changed this meanwhile, to “{str(current)[:_LONGEST_VALUE]}”."
            self.add_error(name, f"{sentence} Yours is kept here: save again to overwrite it.")
        self.data = data

    def _was_changed_meanwhile(self, name: str) -> bool:
        """Return whether the row's value is another than the page showed."""
        bound = self[name]
        if not self.instance.pk or bound.html_initial_name not in self.data:
            return False
        before = bound.field.hidden_widget().value_from_datadict(self.data, self.files, bound.html_initial_name)
        if isinstance(before, str):
            before = before.replace("\r\n", "\n")  # as browsers send line ends
        return bound.field.has_changed(bound.initial, before)
