"""The form of a task in the admin."""

from __future__ import annotations

from typing import Any

from django import forms

from tasks.models import Status, Task

PRIORITIES = ("critical", "high", "normal", "low")
_ONE_LINE = ("name", "slug", "type", "model", "assigned_to", "workflow", "discord_thread_id")
FIELDS = (
    *("name", "slug", "type", "status", "priority", "assigned_to", "repos"),
    *("estimate_minutes", "requires_qa", "model", "workflow", "discord_thread_id"),
)


class TaskForm(forms.ModelForm[Task]):
    """A task's own columns; repositories one a line, as people write them."""

    status = forms.ChoiceField(choices=Status.choices, initial=Status.QUEUED)
    repos = forms.CharField(
        label="Repositories",
        required=False,
        help_text="One a line.",
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    estimate_minutes = forms.IntegerField(required=False, min_value=1, max_value=1_000_000)

    class Meta:
        model = Task
        fields = FIELDS
        widgets: Any = {name: forms.TextInput(attrs={"class": "vTextField"}) for name in _ONE_LINE}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        stored = self.instance.priority or "normal"
        known = PRIORITIES if stored in PRIORITIES else (*PRIORITIES, stored)
        self.fields["priority"] = forms.ChoiceField(choices=[(each, each) for each in known], initial="normal")
        self.initial["repos"] = "\n".join(self.instance.repo_list or ())

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        if not name:
            raise forms.ValidationError("A task needs a name.")
        return name

    def values(self, names: Any) -> dict[str, Any]:
        """What was filled in, as the services take it: repositories as a list, an emptied box as nothing."""
        filled = {name: self.cleaned_data[name] for name in names}
        if "repos" in filled:
            filled["repos"] = str(filled["repos"]).split() or None
        return {name: None if value == "" else value for name, value in filled.items()}
