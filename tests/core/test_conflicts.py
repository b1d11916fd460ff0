"""Two people at one form: nothing that either wrote is lost without a word."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs import services as job_services
from jobs.models import Job
from tasks import services as task_services
from tasks.models import Task

pytestmark = pytest.mark.django_db


class Fields(HTMLParser):
    """The fields of the page's main form, as a browser sends them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._in_form = False
        self._text: str | None = None
        self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._in_form = values.get("id", "").endswith("_form")
        name = values.get("name", "")
        if not self._in_form:
            return
        if tag == "input" and name and values.get("type") not in {"submit", "button"}:
            if values.get("type") != "checkbox" or "checked" in values:
                self.values[name] = values.get("value", "on" if values.get("type") == "checkbox" else "")
        elif tag == "textarea":
            self._text = name
            self.values[name] = ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and "selected" in values:
            self.values[self._select] = values.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self.values[self._text] += data.removeprefix("\n") if not self.values[self._text] else data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._text = None


class Editor:
    """A person with the page of a row open."""

    def __init__(self, name: str, path: str) -> None:
        self.client, self.path = Client(), path
        self.client.force_login(User.objects.create_superuser(name))
        self.client.get("/admin/")
        self.fields: dict[str, str] = {}
        self.open()

    def open(self) -> None:
        self.fields = Fields(self.client.get(self.path).content.decode()).values

    def save(self, **changes: str) -> str | None:
        """Save with these changes; the page with its errors, None when it was saved."""
        answer = self.client.post(self.path, {**self.fields, **changes})
        if answer.status_code == 302:
            return None
        page = answer.content.decode()
        self.fields = Fields(page).values
        return page


def job_case() -> tuple[str, Callable[[], dict[str, Any]]]:
    fields = {"name": "one", "script": "hello.py", "schedule": "@daily", "ping_url": "https://hc.example/secret"}
    job = job_services.define_job(fields={**fields, "description": "first", "timeout_seconds": 60}, actor="x")
    return f"/admin/jobs/job/{job.pk}/settings/", lambda: Job.objects.values().get(pk=job.pk)


def task_case() -> tuple[str, Callable[[], dict[str, Any]]]:
    task = task_services.create_task(fields={"name": "first", "model": "m1", "repos": ["acme/web"]}, actor=None)
    return f"/admin/tasks/task/{task.pk}/edit/", lambda: Task.objects.values().get(pk=task.pk)


CASES = [(job_case, "description", "schedule", "@hourly"), (task_case, "name", "model", "m2")]
PARAMETERS = pytest.mark.parametrize(("case", "text", "other", "value"), CASES, ids=["a job", "a task"])


@PARAMETERS
def test_changes_of_different_fields_are_both_kept(case: Any, text: str, other: str, value: str) -> None:
    path, row = case()
    olga, boris = Editor("olga", path), Editor("boris", path)
    assert olga.save(**{other: value}) is None
    assert boris.save(**{text: "second"}) is None
    assert (row()[other], row()[text]) == (value, "second")


@PARAMETERS
def test_a_change_of_the_same_field_says_who_changed_it_and_keeps_the_text(
    case: Any, text: str, other: str, value: str
) -> None:
    path, row = case()
    olga, boris = Editor("olga", path), Editor("boris", path)
    assert olga.save(**{text: "by olga"}) is None
    page = boris.save(**{text: "by boris"})
    assert page
    assert "olga changed this meanwhile, to “by olga”." in page
    assert boris.fields[text] == "by boris"
    assert row()[text] == "by olga"
    assert boris.save() is None, "saved again, it overwrites knowingly"
    assert row()[text] == "by boris"


def test_a_masked_url_that_was_left_alone_keeps_what_another_made_of_it() -> None:
    path, row = job_case()
    olga, boris = Editor("olga", path), Editor("boris", path)
    assert olga.save(ping_url="https://hc.example/changed") is None
    assert boris.save(description="second") is None
    assert row()["ping_url"] == "https://hc.example/changed"


def test_a_form_that_nobody_else_touched_is_saved() -> None:
    path, row = job_case()
    olga = Editor("olga", path)
    assert olga.save(arguments="a b", environment="A=1") is None
    olga.open()
    assert olga.save(description="") is None
    assert (row()["arguments"], row()["environment"], row()["description"]) == (["a", "b"], {"A": "1"}, "")
