"""`manage.py tasks`: what operators do with tasks from a shell."""

from __future__ import annotations

import io
import json
import pathlib
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from access.leases import claim
from core.callers import Caller, Role
from tasks.leases.queries import Wanted
from tasks.models import Task, TaskEvent, TaskLease, TaskNote
from tasks.questions.services import ask
from tasks.services import create_task

pytestmark = pytest.mark.django_db
RUNNER = Caller("key:box-3", Role.RUNNER)


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("tasks", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def read(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def make(name: str = "Fix it", **fields: Any) -> int:
    return create_task(fields={"name": name, **fields}, actor="test").pk


def held() -> int:
    number = make()
    assert claim(wanted=Wanted(), seconds=60, runner="box-3/1", caller=RUNNER) is not None
    return number


def test_tasks_are_listed_as_a_table_and_as_json() -> None:
    first, second = make("First", priority="low"), make("Second\x1b[31m", type="qa")
    lines = run("list").splitlines()
    assert lines[0].split("\t") == ["TASK", "STATUS", "TYPE", "PRIORITY", "ASSIGNED TO", "CREATED", "NAME"]
    assert [line.split("\t")[0] for line in lines[1:]] == [f"T{second}", f"T{first}"]
    assert "\x1b" not in lines[1]
    assert [task["id"] for task in read("list", "--type", "qa")] == [second]
    assert [task["id"] for task in read("list", "--order", "queue", "--limit", "1")] == [second]
    assert read("list", "--status", "failed") == []
    assert "There are more than 1" in run("list", "--limit", "1")


def test_a_task_is_shown_with_its_questions_and_history() -> None:
    number = make(repos=["org/app"])
    ask(
        task_id=number,
        text="Which one?",
        choices=["a", "b"],
        actor="agent-7",
        caller=Caller("key:agents", Role.SERVICE),
    )
    text = run("show", f"T{number}")
    for part in ("repos\torg/app", "open\tagent-7 (key:agents)\tWhich one?", "created\ttest"):
        assert part in text
    shown = read("show", str(number))
    assert (shown["name"], shown["questions"][0]["choices"]) == ("Fix it", ["a", "b"])
    assert shown["events"][-1]["event_type"] == "created"


def test_a_task_is_created_with_its_note(tmp_path: pathlib.Path) -> None:
    first = make()
    (tmp_path / "body.md").write_text("Do it *well*.")
    options = ("--repo", "org/a", "--repo", "org/b", "--depends-on", f"T{first}", "--priority", "high")
    made = read("create", "Build it", "--body", str(tmp_path / "body.md"), *options)
    assert (made["name"], made["repos"], made["depends_on"], made["priority"]) == (
        *("Build it", ["org/a", "org/b"]),
        *([first], "high"),
    )
    assert "Do it *well*." in TaskNote.objects.get(pk=made["id"]).text
    assert TaskEvent.objects.filter(task_id=made["id"], event_type="created").get().caller == "command line"
    assert run("create", "Another").endswith(" is queued.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("create", " "), "name is required"),
        (("create", "x", "--depends-on", "T99"), "depends_on names T99, which does not exist"),
        (("create", "x", "--not-before", "soon"), "not_before must be an ISO 8601 time"),
        (("create", "x", "--body", "/nowhere"), "/nowhere can't be read"),
        (("show", "T99"), "Task T99 not found"),
        (("show", "x"), "the task is 'x': write it as T42"),
        (("cancel", "x"), "the task is 'x': write it as T42"),
    ],
)
def test_what_can_t_be_done_is_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*arguments)
    assert not Task.objects.exists()


def test_tasks_are_cancelled_and_one_that_can_t_be_keeps_no_other_from_it() -> None:
    first, second = make(), make()
    assert run("cancel", f"T{first}") == f"T{first} is cancelled.\n"
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("tasks", "cancel", f"T{first}", f"T{second}", "--json", stdout=out)
    assert ended.value.code == 1
    rows = json.loads(out.getvalue())
    assert [(row["done"], row["status"]) for row in rows] == [(False, "cancelled"), (True, "cancelled")]
    assert rows[0]["message"] == f"Task T{first} is already cancelled"


def test_a_task_is_queued_again() -> None:
    number = make(status="failed")
    assert read("requeue", f"T{number}") == [
        {"task_id": f"T{number}", "done": True, "status": "queued", "message": f"T{number} is queued."}
    ]


def test_a_task_is_taken_from_its_holder_who_is_told_why() -> None:
    number = held()
    assert run("take-away", f"T{number}", "--reason", "it hangs") == (
        f"T{number} was taken away from box-3/1 (key:box-3), and is queued.\n"
    )
    lease = TaskLease.objects.get()
    assert (lease.end, lease.reason) == ("taken away", "it hangs")
    with pytest.raises(SystemExit):
        run("take-away", f"T{number}")
