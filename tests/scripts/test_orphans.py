"""lobmob-task-manager.py: tasks that nobody works on any more, and their investigations."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.fleet import git
from tests.support.installation import Installation, moment
from tests.support.world import World


@pytest.fixture
def world(tmp_path: pathlib.Path, server: Installation) -> World:
    return World(tmp_path / "fleet", server)


def test_an_orphan_is_queued_again_without_assignment_or_registration(world: World) -> None:
    number = world.task(10)
    world.server.post(f"/api/v1/tasks/{number}/register", {"repos": ["org/code"]})
    world.jobs("lobster-swe-t0")
    assert "nothing to do" in world.twice()
    task = world.get(number)
    assert (task["status"], task["assigned_to"], task["assigned_at"]) == ("queued", None, None)
    assert (task["broker_repos"], task["broker_status"]) == (None, None)
    assert world.events(number) == ["requeued", "updated"]


def test_a_task_that_its_agent_claimed_is_left_to_its_lease(world: World) -> None:
    number = world.task(type="off-cluster")
    claimed = world.server.post("/api/v1/tasks/claim", {"types": ["off-cluster"], "runner": "box-3/1"})
    assert claimed.json["id"] == number
    with world.server.database() as database:
        database.execute("UPDATE tasks SET assigned_at = ? WHERE id = ?", (moment(minutes=-40), number))
    world.manage()
    assert world.get(number)["status"] == "active"
    assert world.events(number) == []


def test_the_fourth_loss_of_a_task_is_its_failure(world: World) -> None:
    number = world.task()
    for _ in range(3):
        world.assign(number, 10)
        world.manage()
        assert world.get(number)["status"] == "queued"
    world.assign(number, 10)
    world.twice()
    assert world.get(number)["status"] == "failed"
    assert world.events(number).count("requeued") == 3
    assert world.events(number).count("failed") == 1


def test_an_orphan_of_long_ago_fails_and_is_investigated_once(world: World) -> None:
    number = world.task(40, estimate_minutes=60, name="Fix | it: 'now'")
    world.twice()
    task = world.get(number)
    assert (task["status"], task["broker_repos"]) == ("failed", None)
    assert task["completed_at"]
    assert world.events(number) == ["investigation", "failed", "updated"]
    (made,) = world.investigations()
    assert (made["name"], made["type"]) == (f"Investigate failed task: T{number}", "system")
    assert (made["status"], made["priority"]) == ("queued", "high")
    note = world.remote_file(f"010-tasks/active/{made['task_id']}.md")
    assert note.startswith(f"---\nid: {made['task_id']}\n")
    assert "status: blocked" in note  # until the sync says otherwise
    for words in (f"T{number}", "Fix | it: 'now'", f"lobster-swe-t{number}", "Do not redo the work", "020-logs/"):
        assert words in note
    assert (world.vault / "010-tasks" / "active" / f"{made['task_id']}.md").read_text() == note


def test_an_investigation_that_fails_begets_no_other(world: World) -> None:
    number = world.task(40)
    world.manage()
    (made,) = world.investigations()
    world.assign(made["id"], 600)
    world.server.request("PATCH", f"/api/v1/tasks/{made['id']}", {"type": "swe"})
    world.assign(number, 600)
    world.twice()
    assert world.get(number)["status"] == world.get(made["id"])["status"] == "failed"
    assert world.investigations() == []


def test_the_note_that_the_sync_made_keeps_its_header(world: World) -> None:
    number = world.task(40)
    first = world.task(type="system", name="a person's")
    del first
    (world.vault / "010-tasks" / "active").mkdir(parents=True)
    made = number + 2
    note = world.vault / "010-tasks" / "active" / f"T{made}.md"
    note.write_text(f"---\nid: T{made}\nmine: [kept]\n---\n\npending\n")
    git("add", ".", at=world.vault)
    git("commit", "-qm", "not pushed yet", at=world.vault)
    world.manage()
    pushed = world.remote_file(f"010-tasks/active/T{made}.md")
    assert pushed.startswith(f"---\nid: T{made}\nmine: [kept]\n---\n\n# Investigate")
    assert "pending" not in pushed


def test_an_investigation_stays_blocked_until_its_note_is_pushed(world: World) -> None:
    number = world.task(40)
    away = world.remote.rename(world.folder / "away")
    for _ in range(2):
        assert "investigations wait" in world.manage(code=1)
        assert [each["status"] for each in world.investigations()] == ["blocked"]
    assert world.get(number)["status"] == "failed"
    away.rename(world.remote)
    world.twice()
    assert [each["status"] for each in world.investigations()] == ["queued"]
    made = world.investigations()[0]
    world.server.request("PATCH", f"/api/v1/tasks/{made['id']}", {"status": "blocked", "actor": "a person"})
    world.manage()
    assert world.investigations()[0]["status"] == "blocked"


def test_an_orphan_with_a_pull_request_is_left_and_said_once(world: World) -> None:
    number = world.task(40)
    world.pull(f"T{number}")
    assert "nothing to do" in world.twice()
    assert world.events(number) == ["orphan_with_pr"]
    assert world.get(number)["status"] == "active"


def test_an_orphans_branch_becomes_a_pull_request_once(world: World) -> None:
    number = world.task(40)
    world.branch(f"t{number}-empty", ahead=0)
    world.branch(f"work/T{number}")
    assert "nothing to do" in world.twice()
    assert [pull["headRefName"] for pull in world.pulls()] == [f"work/T{number}"]
    assert world.events(number) == ["fallback_pr"]
    assert world.get(number)["status"] == "active"


def test_who_is_too_young_or_has_a_job_or_is_of_the_system_is_no_orphan(world: World) -> None:
    young, alive = world.task(1), world.task(40)
    system, unassigned = world.task(40, type="system"), world.task(40)
    world.server.request("PATCH", f"/api/v1/tasks/{unassigned}", {"assigned_to": None})
    world.working(alive)
    world.manage()
    assert [world.get(number)["status"] for number in (young, alive, system, unassigned)] == ["active"] * 4
    assert len(world.investigations()) == 1  # the one of this test


def test_kubernetes_is_asked_in_the_namespace_of_the_installation(world: World) -> None:
    world.task(10)
    world.manage(LOBMOB_NAMESPACE="elsewhere")
    ((arguments, _),) = world.calls("kubectl")
    assert arguments[:6] == ["get", "jobs", "-n", "elsewhere", "-l", "app.kubernetes.io/name=lobster"]
