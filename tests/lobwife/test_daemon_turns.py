"""When the daemon's main loop looks, and at what."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timedelta

import pytest
import time_machine
from django.db import connection, transaction
from django.db.utils import OperationalError

from core.sqlite.notification import notify
from core.timestamps import utc_now
from jobs.models import Job
from jobs.scheduling import due
from lobwife.daemon import scheduler
from lobwife.daemon.leader_work import Work
from lobwife.daemon.leadership import Lead
from lobwife.daemon.loop import Loop
from lobwife.daemon.process import Daemon
from lobwife.daemon.scheduler import Scheduler
from tasks.models import Task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite("its notification of commits")]


class Still(Scheduler):
    """Never wakes."""

    is_alive = True  # type: ignore[assignment]

    def __init__(self) -> None:
        """Nothing to plan."""

    def refresh(self) -> None:
        """Nothing to look at."""


def leading(scheduler: Scheduler, *loops: Loop) -> Daemon:
    daemon = Daemon()
    daemon.work = Work(Lead(), scheduler, loops)
    return daemon


def test_loops_hear_of_what_the_main_loop_itself_has_written() -> None:
    loop = Loop("any", lambda: False, every_seconds=1)
    daemon = leading(Still(), loop)
    daemon.tick()
    daemon.tick()
    loop._woken.clear()
    daemon.tick()
    assert not loop._woken.is_set()
    with transaction.atomic():
        Task.objects.create(name="as the end of a run is")
    daemon.tick()
    assert loop._woken.is_set()


def test_loops_hear_that_the_clock_was_set() -> None:
    loop = Loop("any", lambda: False, every_seconds=1)
    daemon = leading(Still(), loop)
    daemon.tick()
    loop._woken.clear()
    with time_machine.travel(utc_now() + timedelta(hours=1), tick=True):
        daemon.tick()
    assert loop._woken.is_set()


@pytest.mark.parametrize(("answer", "again_after"), [(0.2, 0.2), (60.0, 0.4), (False, 0.4)])
def test_a_loop_without_work_is_called_again_when_time_makes_some_or_now_and_then(
    answer: float, again_after: float
) -> None:
    stop, turns = threading.Event(), list[float]()

    def tick() -> float:
        turns.append(time.monotonic())
        if len(turns) == 2:
            stop.set()
        return answer

    Loop("any", tick, every_seconds=0.01, idle_seconds=0.4).run(stop)
    assert again_after <= turns[1] - turns[0] < again_after + 5


def test_commits_in_a_row_are_one_look_at_the_schedule_and_none_is_missed() -> None:
    looks: list[int] = []

    class Counted(Still):
        def refresh(self) -> None:
            looks.append(Task.objects.count())

    daemon = leading(Counted())
    daemon.tick()
    for number in range(5):
        with transaction.atomic():
            Task.objects.create(name=f"task {number}")
        daemon.tick()
    assert len(looks) < 5
    deadline = time.monotonic() + 15
    while looks[-1] < 5 and time.monotonic() < deadline:
        daemon.tick()
    assert looks[-1] == 5


def test_a_scheduler_whose_thread_died_ends_the_daemon_to_be_started_again() -> None:
    dead = Still()
    dead.is_alive = False
    assert leading(dead)._work() == 1


def test_a_scheduler_goes_on_when_the_database_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, looks, goes_on = due.next_wake, list[datetime](), threading.Event()

    def next_wake(now: datetime) -> datetime | None:
        if threading.current_thread() is not threading.main_thread():
            looks.append(now)
            if len(looks) == 1:
                raise OperationalError("the connection is lost")
            goes_on.set()
        return planned(now)

    monkeypatch.setattr(due, "next_wake", next_wake)
    past = utc_now() - timedelta(minutes=1)
    Job.objects.create(name="due", script="hello.py", schedule="@hourly", settled_through=past, next_firing=past)
    waking = Scheduler({})
    waking.start()
    try:
        assert goes_on.wait(20)
        assert waking.is_alive
    finally:
        waking.shut_down()


def test_a_turn_that_fails_is_not_tried_again_for_each_commit() -> None:
    daemon = leading(Still())
    daemon._signal_pipe, end = os.pipe()
    turns: list[float] = []

    def tick() -> None:
        turns.append(time.monotonic())
        daemon._stop_requested = len(turns) == 4
        notify(str(connection.settings_dict["NAME"]))
        raise OSError("the disk says no")

    daemon.tick = tick  # type: ignore[method-assign]
    assert daemon._work() == 0
    for descriptor in (daemon._signal_pipe, end):
        os.close(descriptor)
    assert turns[-1] - turns[0] >= 0.03 * (2 + 4 + 8)


class StallingMachine:
    """Two seconds pass after it was first asked for the time."""

    passed = 0.0

    def monotonic(self) -> float:
        return self._then_stall(time.monotonic())

    def time(self) -> float:
        return self._then_stall(time.time())

    def _then_stall(self, shown: float) -> float:
        shown += self.passed
        self.passed = 2.0
        return shown


def test_a_machine_that_stalls_is_not_taken_for_one_whose_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = scheduler.Clock()
    monkeypatch.setattr(scheduler, "time", StallingMachine())
    assert looked_at.was_set_by() == 0
