"""The clock is set, forward and back, while web and daemon live."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.clock import Clock
from tests.support.installation import Installation, wait_for
from tests.support.jobs import define, execute, rows

NOON = datetime(2030, 3, 4, 12, 0, tzinfo=UTC)
TOMORROW = NOON + timedelta(days=1)
SHORTLY = timedelta(seconds=1)


def after_noon(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


@pytest.fixture
def clock(installation: Installation) -> Clock:
    """Some time before noon. One job fires a few times in the half hour after it, the others never."""
    made = Clock(installation)
    made.set(after_noon(-60))
    installation.script("ok.sh", "echo fine")
    execute(installation, "INSERT INTO job_state (name, enabled) SELECT name, FALSE FROM jobs_job")
    define(installation, {"name": "often", "script": "ok.sh", "schedule": "0,1,10,20,30 12 * * *"})
    installation.start_web()
    installation.start_daemon()
    return made


def firings(installation: Installation) -> list[tuple[str, str, str, str]]:
    """Once none of them goes on."""
    found = rows(installation, "SELECT scheduled_for, trigger, state, note FROM jobs_jobrun ORDER BY id")
    return [(row["scheduled_for"][11:16], *tuple(row)[1:]) for row in found]


def settled(installation: Installation, through: datetime, following: datetime) -> bool:
    """Whether the daemon has dealt with that moment, or one shortly after it, and what fires next."""
    [job] = rows(installation, "SELECT settled_through, next_firing FROM jobs_job WHERE name = 'often'")
    moments = [datetime.fromisoformat(each).replace(tzinfo=UTC) for each in job]
    return through <= moments[0] < through + timedelta(minutes=1) and moments[1] == following


def is_well(installation: Installation) -> bool:
    health = installation.get("/health").json
    return health["status"] == "ok" and abs(health["daemon"]["heartbeat_age"]) < 20


def test_a_clock_that_is_set_repeats_no_slot_and_passes_none_over_in_silence(
    installation: Installation, clock: Clock
) -> None:
    clock.set(NOON - SHORTLY)
    expected = [("12:00", "schedule", "success", "")]
    wait_for(lambda: firings(installation) == expected, what="noon fires")

    clock.set(after_noon(30) + timedelta(seconds=40))
    expected.append(("12:30", "catch-up", "success", "4 firings missed"))
    wait_for(lambda: firings(installation) == expected, what="what the clock jumped over is a missed firing")
    wait_for(lambda: is_well(installation), what="well after a jump forward")

    # By less than a minute, and by half an hour.
    for times, (minutes, following) in enumerate(((30, TOMORROW), (0, after_noon(1))), start=1):
        clock.set(after_noon(minutes) - SHORTLY)
        wait_for(lambda times=times: installation.log().count("the clock was set back by") == times)
        wait_for(lambda minutes=minutes, following=following: settled(installation, after_noon(minutes), following))
        wait_for(lambda: is_well(installation), what="well after a jump back")
        assert firings(installation) == expected, "no slot is repeated"

    clock.set(after_noon(1) - SHORTLY)
    expected.append(("12:01", "schedule", "success", ""))
    wait_for(lambda: firings(installation) == expected, what="a slot that had not been fires on time")
    assert installation.get("/api/jobs/often").json["next_run"] == str(after_noon(10))
    assert installation.log().count("the clock was set back by") == 2, "not once more"
