"""The read view of a task: its history with values, its note, its tokens; the list as CSV."""

from __future__ import annotations

import pathlib
import re
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.utils.html import escape

from broker import audit
from broker.models import Action, Outcome
from broker.services import register_task
from core.callers import Caller, Role
from core.timestamps import iso_text, utc_now
from tasks import notes, services
from tasks.models import Status, Task, TaskEvent
from tests.support.pages import form_of, text
from vaultsync.templatetags.vault_tags import as_html

pytestmark = pytest.mark.django_db
BOSS = Caller("key:lobboss", Role.SERVICE, "10.0.0.1")
HOSTILE = """---
status: active
---
# What *came* out

<script>alert(1)</script> <img src=x onerror=alert(2)> [bad](javascript:alert(3)) [data](data:text/html,x)
![pixel](https://tracker.example.com/x.png) [good](https://example.com/a)

| a | b |
|:--|--:|
| 1 | 2 |
"""


@pytest.fixture
def task() -> Task:
    made = services.create_task(fields={"name": "Fix it", "repos": ["acme/web"]}, actor="lobboss", caller=BOSS)
    return Task.objects.get(pk=made.pk)


def page_of(task: Task) -> str:
    return f"/admin/tasks/task/{task.pk}/change/"


def test_the_timeline_has_old_and_new_values_and_who_was_identified(operator_client: Client, task: Task) -> None:
    changes = {"status": "active", "priority": "high", "repos": ["acme/web", "acme/api"]}
    services.update_task(task_id=task.pk, changes=changes, actor="a claim", caller=BOSS)
    page = text(operator_client, page_of(task))
    assert re.search(r"queued</span>.*→.*active</span> by a claim <span[^>]*>\(key:lobboss\)", page)
    assert re.search(r"<dt>priority</dt><dd><del>normal</del>.*<ins>high</ins>", page)
    assert re.search(r"<dt>repositories</dt><dd><del>acme/web</del>.*<ins>acme/web, acme/api</ins>", page)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("name", "   ", "Must not be empty"),
        ("repos", "org/a\nnot a repo", "is not a repository such as owner/name"),
        ("estimate_minutes", "30m", "Must be a whole number, 0 or more."),
        ("assigned_at", "yesterday", "Must be an ISO 8601 time"),
        ("completed_at", "2026-13-45", "Must be an ISO 8601 time"),
    ],
)
def test_nonsense_is_refused_at_its_field(
    operator_client: Client, task: Task, field: str, value: str, reason: str
) -> None:
    path = f"/admin/tasks/task/{task.pk}/edit/"
    answer = operator_client.post(path, form_of(operator_client, path, **{field: value}))
    assert answer.status_code == 200
    reasons = answer.context["adminform"].form.errors[field]
    assert reason in " ".join(reasons)
    assert escape(reasons[0]) in answer.content.decode()
    assert TaskEvent.objects.filter(task=task).count() == 1


def test_a_new_task_has_a_note_of_what_it_is_about(operator_client: Client) -> None:
    path = "/admin/tasks/task/add/"
    answer = operator_client.post(
        path, form_of(operator_client, path, name="Write it", status="queued", body="## Why\r\n\r\n*Because.*")
    )
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    made = Task.objects.get()
    note = notes.requested_text(made.pk)
    assert note is not None
    assert note[0] == "\n# Write it\n\n## Why\n\n*Because.*\n"
    assert 'name="body"' not in text(operator_client, f"/admin/tasks/task/{made.pk}/edit/")


def test_the_form_shows_repositories_and_times_for_people(operator_client: Client, task: Task) -> None:
    register_task(task_id=task.pk, repos=["acme/web", "acme/api"], lobster_type="swe", caller=BOSS)
    times = {"assigned_at": "2026-02-16T12:00:00.682421+00:00", "created_at": "2026-02-01T10:00:00Z"}
    Task.objects.filter(pk=task.pk).update(**times)
    path = f"/admin/tasks/task/{task.pk}/edit/"
    page = text(operator_client, path)
    assert 'value="2026-02-16 12:00:00"' in page
    assert "2026-02-01 10:00:00 UTC" in page
    assert "acme/web<br>acme/api" in page
    assert "&quot;acme/web&quot;" not in page
    operator_client.post(path, form_of(operator_client, path, priority="high"))
    assert Task.objects.get().assigned_at == "2026-02-16T12:00:00.682421+00:00"
    assert Task.objects.get().priority == "high"


def test_only_what_changed_is_recorded_and_long_values_are_cut(task: Task) -> None:
    services.update_task(task_id=task.pk, changes={"name": "Fix it", "workflow": "w" * 1000}, actor="x")
    [(name, old, new)] = TaskEvent.objects.latest("pk").field_changes
    assert (name, old, len(new)) == ("workflow", "–", 201)


def test_events_of_older_versions_show_the_status_they_led_to(operator_client: Client, task: Task) -> None:
    TaskEvent.objects.create(task=task, event_type="updated", detail="Updated: status", actor="x", status="active")
    TaskEvent.objects.create(task=task, event_type="updated", detail="Updated: model", changes="{not json")
    page = text(operator_client, page_of(task))
    assert re.search(r"queued</span>.*→.*active</span> by x", page)
    assert "Updated: model" in page


def test_a_note_is_rendered_and_nothing_of_it_runs_or_loads(
    operator_client: Client, task: Task, tmp_path: pathlib.Path, settings: LazySettings
) -> None:
    settings.VAULT_PATH = tmp_path
    note = tmp_path / "010-tasks" / "active" / f"T{task.pk}.md"
    note.parent.mkdir(parents=True)
    note.write_text(HOSTILE)
    services.update_task(task_id=task.pk, changes={"status": "active"}, actor="x")
    page = text(operator_client, page_of(task))
    html = page[page.index('<div class="note">') : page.index('<p class="note-status">')]
    assert "<h3>What <em>came</em> out</h3>" in html
    assert 'href="https://example.com/a"' in html
    assert not re.search(r"<script|<img|javascript:alert\(3\)\"|href=\"data:|style=|status: active", html)
    note.unlink()
    note.symlink_to("/etc/passwd")
    assert "root:" not in text(operator_client, page_of(task))


def test_deeply_nested_markdown_is_no_trouble() -> None:
    assert as_html("> " * 5000 + "x")
    assert as_html("[" * 5000)


def test_the_tokens_of_a_task_say_who_has_which_and_until_when(operator_client: Client, task: Task) -> None:
    assert "no agent gets a token for this task" in text(operator_client, page_of(task))
    register_task(task_id=task.pk, repos=["acme/web"], lobster_type="swe", caller=BOSS)
    agent = Caller("key:lobster-1", Role.AGENT, "10.0.0.9", task_id=task.pk)
    about = {"requested_id": f"T{task.pk}", "task_number": task.pk, "caller": agent, "repos": ["acme/web"]}
    later = iso_text(utc_now() + timedelta(days=365))
    for digest in ("live", "gone"):
        audit.record(**about, action=Action.TOKEN, outcome=Outcome.ISSUED, expires_at=later, token_sha256=digest)
    ended = {"outcome": Outcome.REVOKED, "token_sha256": "gone", "reason": "ended by an operator"}
    audit.record(**{**about, "caller": audit.SYSTEM}, action=Action.TOKEN_REVOKED, **ended)
    audit.record(**about, action=Action.TOKEN_REFUSED, outcome=Outcome.REFUSED, reason="not registered for acme/api")
    page = text(operator_client, page_of(task))
    tokens = page[page.index('id="tokens-title"') :]
    states = re.findall(r'<li><span class="badge badge-[a-z-]+">(\w+)</span> <strong>key:lobster-1', tokens)
    assert states == ["refused", "revoked", "valid"]
    assert "ended by an operator" in tokens
    assert f"/admin/broker/taskregistration/{task.pk}/change/" in tokens


def test_how_long_a_task_waited_and_was_worked_on(operator_client: Client, task: Task) -> None:
    times = {"queued_at": "2026-01-01 10:00:00", "assigned_at": "2026-01-01T10:06:00Z"}
    times |= {"completed_at": "2026-01-01T11:15:00Z", "status": "completed", "estimate_minutes": 15}
    Task.objects.filter(pk=task.pk).update(**times)
    page = text(operator_client, page_of(task))
    assert "waited 6 min" in page
    assert "worked 1 h 9 min of 15 min estimated" in page


def test_a_viewer_reads_a_task_and_has_no_form(task: Task) -> None:
    viewer = User.objects.create_user("viktor", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(viewer)
    page = text(client, page_of(task))
    assert "Timeline" in page
    assert "Complete" not in page
    assert f"/admin/tasks/task/{task.pk}/edit/" not in page
    stranger = User.objects.create_user("eve", is_staff=True)
    client.force_login(stranger)
    for path in (page_of(task), f"/admin/tasks/task/{task.pk}/edit/", "/admin/tasks/task/csv/"):
        assert client.get(path).status_code == 403, path


def test_the_list_is_downloaded_as_it_is_filtered(operator_client: Client, task: Task) -> None:
    services.create_task(fields={"name": "=HYPERLINK(1)", "status": Status.FAILED}, actor="x")
    answer = operator_client.get("/admin/tasks/task/csv/?status=failed")
    lines = b"".join(answer).decode().splitlines()  # type: ignore[arg-type]
    assert len(lines) == 2
    assert lines[0].startswith("task_id,name,status")
    assert "'=HYPERLINK(1)" in lines[1]


@pytest.mark.django_db(transaction=True)  # else the connection stays open for the test's own transaction
def test_a_download_keeps_its_order_and_holds_no_connection_while_it_is_read(
    operator_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "cab":
        services.create_task(fields={"name": name}, actor="x")
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)  # as in web
    monkeypatch.setattr("tasks.admin.csv_export._PAGE_ROWS", 2)
    names = []
    for line in operator_client.get("/admin/tasks/task/csv/?o=2"):
        names.append(line.decode().split(",")[1])  # type: ignore[union-attr]
        assert len(names) == 1 or connection.connection is None
    for model in (TaskEvent, Task):  # before their tables are emptied in any order
        model.objects.all().delete()
    assert names == ["name", "a", "b", "c"]


def test_many_changes_are_summed_up_in_one_sentence(operator_client: Client) -> None:
    made = [services.create_task(fields={"name": f"t{number}"}, actor="x") for number in range(6)]
    for over in made[:5]:
        services.update_task(task_id=over.pk, changes={"status": "completed"}, actor="x")
    chosen = {"action": "cancel", "confirmed": "yes", "_selected_action": [task.pk for task in made]}
    page = operator_client.post("/admin/tasks/task/", chosen, follow=True).content.decode()
    assert "Cancel: done for 1 of 6. Not for 5: " in page
    assert "and 2 more." in page
    assert page.count('<li class="warning">') == 1
