"""lobmob-task-manager.py: time-outs, orphans and the queue, against the real REST and a real vault."""

from __future__ import annotations

import datetime
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fleet import Fleet, git
from tests.installation import Installation, wait_for
from tests.receiver import Receiver, receiver

SCRIPT = "lobmob-task-manager.py"
ACTOR = "lobmob-task-manager"


class World(Fleet):
    """A fleet over a lobwife without tasks."""

    def __init__(self, folder: pathlib.Path, server: Installation) -> None:
        super().__init__(folder, server)
        self.server = server
        with server.database() as database:
            database.execute("DELETE FROM task_events")
            database.execute("DELETE FROM tasks")

    def task(self, minutes: float | None = None, **fields: Any) -> int:
        """A task; active and assigned so many minutes ago, when minutes are given."""
        number: int = self.server.post("/api/v1/tasks", {"name": "Fix it", **fields}).json["id"]
        if minutes is not None:
            self.assign(number, minutes, **fields)
        return number

    def assign(self, number: int, minutes: float, **fields: Any) -> None:
        at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=minutes)
        body = {"status": "active", "assigned_to": f"lobster-swe-t{number}", "assigned_at": at.isoformat(), **fields}
        assert self.server.request("PATCH", f"/api/v1/tasks/{number}", body).status == 200

    def aged(self, number: int, minutes: float) -> None:
        """As if it had been made so long ago."""
        with self.server.database() as database:
            database.execute(
                "UPDATE tasks SET created_at = datetime('now', ?) WHERE id = ?", (f"-{minutes} minutes", number)
            )

    def get(self, number: int) -> dict[str, Any]:
        return self.server.get(f"/api/v1/tasks/{number}").json

    def events(self, number: int) -> list[str]:
        """What the script said of a task, oldest first."""
        history = self.server.get(f"/api/v1/tasks/{number}/events").json
        return [each["event_type"] for each in reversed(history) if each["actor"] == ACTOR]

    def manage(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run the script; its output."""
        done = self.run(SCRIPT, *arguments, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def twice(self, **environment: str) -> str:
        """Run it two times; what the second run said."""
        self.manage(**environment)
        return self.manage(**environment)

    def working(self, *numbers: int) -> None:
        """Kubernetes has jobs for these tasks."""
        self.jobs(*(f"lobster-swe-t{number}" for number in numbers))

    def branch(self, name: str, ahead: int = 1, repo: str = "org/vault") -> None:
        self.gh["repos"].setdefault(repo, {}).setdefault("branches", {})[name] = ahead
        self.save()

    def pull(self, branch: str, repo: str = "org/vault") -> None:
        pulls = self.gh["repos"].setdefault(repo, {}).setdefault("pulls", [])
        pulls.append({"number": 7, "headRefName": branch, "url": f"https://github.com/{repo}/pull/7"})
        self.save()

    def investigations(self) -> list[dict[str, Any]]:
        return self.server.get("/api/v1/tasks?type=system").json


@pytest.fixture
def world(tmp_path: pathlib.Path, server: Installation) -> World:
    return World(tmp_path / "fleet", server)


@pytest.fixture
def discord() -> Iterator[Receiver]:
    with receiver() as told:
        yield told


# --- time-outs
@pytest.mark.parametrize(
    ("estimate", "minutes", "said"),
    [
        (None, 44, []),
        (None, 46, ["timeout_warning"]),
        (None, 91, ["timeout_failure"]),
        (0, 46, ["timeout_warning"]),
        (60, 74, []),
        (60, 76, ["timeout_warning"]),
        (60, 121, ["timeout_failure"]),
        (5, 11, ["timeout_failure"]),
    ],
)
def test_a_task_over_its_time_is_reported_once(
    world: World, estimate: int | None, minutes: int, said: list[str]
) -> None:
    number = world.task(minutes, estimate_minutes=estimate)
    world.working(number)
    assert "nothing to do" in world.twice()
    assert world.events(number) == said
    assert world.get(number)["status"] == "active"


def test_a_warning_is_followed_by_a_failure_report_and_begins_anew_with_each_assignment(world: World) -> None:
    number = world.task(50)
    world.working(number)
    world.twice()
    world.assign(number, 95)
    world.twice()
    world.assign(number, 50.5)
    world.twice()
    assert world.events(number) == ["timeout_warning", "timeout_failure", "timeout_warning"]


def test_a_task_with_an_open_pull_request_is_left_alone(world: World) -> None:
    mine, other, elsewhere = world.task(200), world.task(200), world.task(200, repos=["org/code"])
    world.working(mine, other, elsewhere)
    world.pull(f"agent/T{mine}-fix")
    world.pull(f"agent/t{other}0-and-xt{other}")
    world.pull(f"fix_t{elsewhere}", "org/code")
    world.twice()
    assert world.events(mine) == world.events(elsewhere) == []
    assert world.events(other) == ["timeout_failure"]


def test_the_thread_of_a_task_is_told_once(world: World, discord: Receiver) -> None:
    number = world.task(50, discord_thread_id="1234567890")
    silent = world.task(50)
    world.working(number, silent)
    environment = {"DISCORD_BOT_TOKEN": "bot-secret-word", "DISCORD_API_URL": f"http://127.0.0.1:{discord.port}/api"}
    first = world.manage(**environment)
    world.manage(**environment)
    assert discord.paths == ["/api/channels/1234567890/messages"]
    assert f"T{number}" in discord.bodies[0]
    assert "bot-secret-word" not in first


def test_a_discord_that_fails_is_said_and_nothing_else_stops(world: World, discord: Receiver) -> None:
    discord.status = 403
    first, second = world.task(50, discord_thread_id="12"), world.task(50, discord_thread_id="../../x")
    world.working(first, second)
    environment = {"DISCORD_BOT_TOKEN": "bot-secret-word", "DISCORD_API_URL": f"http://127.0.0.1:{discord.port}"}
    said = world.manage(code=1, **environment)
    assert "Discord answered 403" in said
    assert "is not a channel's number" in said
    assert "bot-secret-word" not in said
    assert world.events(first) == world.events(second) == ["timeout_warning"]


# --- orphans
def test_an_orphan_is_queued_again_without_assignment_or_registration(world: World) -> None:
    number = world.task(10)
    world.server.post(f"/api/v1/tasks/{number}/register", {"repos": ["org/code"]})
    world.jobs("lobster-swe-t0")
    assert "nothing to do" in world.twice()
    task = world.get(number)
    assert (task["status"], task["assigned_to"], task["assigned_at"]) == ("queued", None, None)
    assert (task["broker_repos"], task["broker_status"]) == (None, None)
    assert world.events(number) == ["requeued", "updated"]


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


# --- what can't be known
@pytest.mark.parametrize("trouble", ["missing", "failing", "garbage", "other"])
@pytest.mark.parametrize("tool", ["gh", "kubectl"])
def test_nothing_is_decided_without_knowing(world: World, tool: str, trouble: str) -> None:
    orphan, waiting = world.task(40), world.task()
    world.aged(waiting, 61)
    if trouble == "missing":
        world.remove(tool)
    else:
        answers = {"failing": {"exit": 1}, "garbage": {"answer": "<html>"}, "other": {"answer": '{"items": [1]}'}}
        setattr(world, tool, answers[trouble])
        world.save()
    for _ in range(2):
        said = world.manage(code=0 if trouble == "missing" else 1)
        assert said.count("left alone") + said.count("not looked for") == 1
    assert world.get(orphan)["status"] == "active"
    assert world.events(orphan) == []
    assert world.events(waiting) == ["queue_delay"]


def test_time_outs_are_reported_without_kubernetes_but_not_without_pull_requests(world: World) -> None:
    number = world.task(50)
    world.remove("kubectl")
    world.remove("gh")
    world.manage()
    assert world.events(number) == []
    world.install("gh", "#!{python} -ES\nprint('[]') or {state!r}\n")
    world.twice()
    assert world.events(number) == ["timeout_warning"]


def test_a_lobwife_that_is_away_is_a_failure_in_a_sentence(world: World) -> None:
    said = world.manage(code=1, LOBWIFE_URL="http://127.0.0.1:9")
    assert "lobwife does not answer" in said
    assert said.splitlines()[-1]


# --- the queue
def test_what_waits_too_long_is_reported_once_for_each_time_it_is_queued(world: World) -> None:
    late, fresh, system = world.task(), world.task(), world.task(type="system")
    for number in (late, system):
        world.aged(number, 61)
    assert "nothing to do" in world.twice()
    assert world.events(late) == ["queue_delay"]
    assert world.events(fresh) == world.events(system) == []
    world.server.post(f"/api/v1/tasks/{late}/events", {"event_type": "requeued"})
    world.manage()
    with world.server.database() as database:
        database.execute(
            "UPDATE task_events SET created_at = datetime('now', '-30 minutes') WHERE event_type='requeued'"
        )
    world.manage()
    assert world.events(late) == ["queue_delay"]
    assert "1 delays reported" in world.manage("--queue-minutes", "29")
    assert world.events(fresh) == []


def test_a_dry_run_says_much_and_does_nothing(world: World) -> None:
    lost, young, late, saved = world.task(40), world.task(10), world.task(), world.task(40)
    world.aged(late, 61)
    world.branch(f"T{saved}")
    said = world.manage("--dry-run")
    for number in (lost, young, late, saved):
        assert f"T{number} " in said
        assert world.events(number) == []
    assert world.pulls() == []
    assert world.investigations() == []
    assert "--dry-run" in world.manage("--help")


# --- size and kills
def test_a_large_fleet_is_looked_at_with_a_constant_number_of_calls(world: World) -> None:
    with world.server.database() as database:
        database.executemany(
            "INSERT INTO tasks (name, status, assigned_to, assigned_at) VALUES (?, 'active', ?, ?)",
            [("one of many", f"lobster-{number}", "2026-01-01T00:00:00Z") for number in range(500)],
        )
    world.jobs(*(f"lobster-{number}" for number in range(500)))
    began = time.monotonic()
    assert "500 timeouts reported" in world.manage()
    print(f"500 overdue tasks: {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    assert "nothing to do" in world.manage()
    print(f"again: {time.monotonic() - began:.1f} s")
    assert len(world.calls("gh")) == len(world.calls("kubectl")) == 2  # one for each run


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.soak)], ids=["few", "many"])
def test_kills_at_any_moment_double_nothing(world: World, kills: int) -> None:
    lost = [world.task(40) for _ in range(4)]
    young = [world.task(10) for _ in range(4)]
    world.manage("--dry-run")

    def settled() -> int:
        return sum(len(world.events(number)) for number in (*lost, *young))

    for _ in range(kills):
        before = settled()
        script = subprocess.Popen(
            world.command(SCRIPT), env=world.environment, cwd=world.folder, stdout=-3, stderr=-3, start_new_session=True
        )
        wait_for(lambda p=script, b=before: p.poll() is not None or settled() > b, what="it has done something")
        if script.poll() is None:
            os.killpg(script.pid, signal.SIGKILL)
        script.wait()
    world.twice()
    for number in young:
        assert world.get(number)["status"] == "queued"
        assert world.events(number).count("requeued") == 1
    for number in lost:
        assert world.get(number)["status"] == "failed"
        assert world.events(number).count("failed") == world.events(number).count("investigation") == 1
    made = world.investigations()
    assert sorted(each["name"] for each in made) == sorted(f"Investigate failed task: T{number}" for number in lost)
    assert {each["status"] for each in made} == {"queued"}
    for each in made:
        assert "Do not redo" in world.remote_file(f"010-tasks/active/{each['task_id']}.md")
