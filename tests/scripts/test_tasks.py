"""lobmob-task-manager.py: time-outs, the queue and what it can't know, against the real REST and a real vault."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.installation import Installation, moment, wait_for
from tests.support.receiver import Receiver, receiver
from tests.support.world import SCRIPT, World


@pytest.fixture
def world(tmp_path: pathlib.Path, server: Installation) -> World:
    return World(tmp_path / "fleet", server)


@pytest.fixture
def discord() -> Iterator[Receiver]:
    with receiver() as discord:
        yield discord


# --- time-outs
def test_a_task_over_its_time_is_reported_once(world: World) -> None:
    expected: dict[tuple[int | None, int], list[str]] = {
        (None, 44): [],
        (None, 46): ["timeout_warning"],
        (None, 91): ["timeout_failure"],
        (0, 46): ["timeout_warning"],
        (60, 74): [],
        (60, 76): ["timeout_warning"],
        (60, 121): ["timeout_failure"],
        (5, 11): ["timeout_failure"],
    }
    numbers = {each: world.task(each[1], estimate_minutes=each[0]) for each in expected}
    world.working(*numbers.values())
    assert "nothing to do" in world.twice()
    assert {each: world.events(number) for each, number in numbers.items()} == expected
    assert {world.get(number)["status"] for number in numbers.values()} == {"active"}


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
    output = world.manage(code=1, **environment)
    assert "Discord answered 403" in output
    assert "is not a channel's number" in output
    assert "bot-secret-word" not in output
    assert world.events(first) == world.events(second) == ["timeout_warning"]


# --- what can't be known
@pytest.mark.parametrize("tool", ["gh", "kubectl"])
def test_nothing_is_decided_without_knowing(world: World, tool: str) -> None:
    orphan, waiting = world.task(40), world.task()
    world.aged(waiting, 61)
    for trouble in ({"exit": 1}, {"answer": "<html>"}, {"answer": '{"items": [1]}'}, "missing"):
        if trouble == "missing":
            world.remove(tool)
        else:
            setattr(world, tool, trouble)
            world.save()
        output = world.manage(code=0 if trouble == "missing" else 1)
        assert output.count("left alone") + output.count("not looked for") == 1, trouble
        assert world.get(orphan)["status"] == "active", trouble
        assert world.events(orphan) == [], trouble
        assert world.events(waiting) == ["queue_delay"], trouble


def test_time_outs_are_reported_without_kubernetes_but_not_without_pull_requests(world: World) -> None:
    number = world.task(50)
    world.remove("kubectl")
    world.remove("gh")
    world.manage()
    assert world.events(number) == []
    world.install("gh", "print('[]')\n")
    world.twice()
    assert world.events(number) == ["timeout_warning"]


def test_a_lobwife_that_is_away_is_a_failure_in_a_sentence(world: World) -> None:
    output = world.manage(code=1, LOBWIFE_URL="http://127.0.0.1:9")
    assert "lobwife does not answer" in output
    assert output.splitlines()[-1]


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
        requeued = "UPDATE task_events SET created_at = ? WHERE event_type = 'requeued'"
        database.execute(requeued, (moment(minutes=-30),))
    world.manage()
    assert world.events(late) == ["queue_delay"]
    assert "1 delays reported" in world.manage("--queue-minutes", "29")
    assert world.events(fresh) == []


def test_a_dry_run_says_much_and_does_nothing(world: World) -> None:
    lost, young, late, saved = world.task(40), world.task(10), world.task(), world.task(40)
    world.aged(late, 61)
    world.branch(f"T{saved}")
    output = world.manage("--dry-run")
    for number in (lost, young, late, saved):
        assert f"T{number} " in output
        assert world.events(number) == []
    assert world.pulls() == []
    assert world.investigations() == []
    assert "--dry-run" in world.manage("--help")


# --- size and kills
def test_a_large_fleet_is_looked_at_with_a_constant_number_of_calls(world: World) -> None:
    with world.server.database() as database:
        database.executemany(
            "INSERT INTO tasks (name, status, assigned_to, assigned_at) VALUES (?, 'active', ?, ?)",
            [("one of many", f"lobster-{number}", "2026-01-01T00:00:00Z") for number in range(100)],
        )
    world.jobs(*(f"lobster-{number}" for number in range(100)))
    began = time.monotonic()
    assert "100 timeouts reported" in world.manage()
    print(f"100 overdue tasks: {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    assert "nothing to do" in world.manage()
    print(f"again: {time.monotonic() - began:.1f} s")
    assert len(world.calls("gh")) == len(world.calls("kubectl")) == 2  # one for each run


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.soak)], ids=["few", "many"])
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
