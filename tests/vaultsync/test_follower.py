"""When the daemon syncs: after quiet, by the interval, on request, again after a failure."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine

from core.git.lock import vault_lock
from core.timestamps import utc_now
from tests.support.git_remote import World, note_of, task
from vaultsync import services
from vaultsync.follower import VaultFollower
from vaultsync.models import SyncRequest, SyncRun, VaultState

pytestmark = pytest.mark.django_db


class Clock:
    """Moves both clocks that the follower looks at."""

    def __init__(self, follower: VaultFollower, traveller: time_machine.Traveller) -> None:
        self.traveller = traveller
        self.monotonic = 1000.0
        follower.clock = lambda: self.monotonic

    def forward(self, seconds: float) -> None:
        self.monotonic += seconds
        self.traveller.shift(timedelta(seconds=seconds))


def test_a_request_that_comes_during_a_sync_makes_one_more(world: World, follower: VaultFollower) -> None:
    follower.tick()
    services.request_sync(actor="REST")

    def ask(step: str) -> None:
        if step == "fetched":
            services.request_sync(actor="REST")
            services.request_sync(actor="REST")

    world.synced(checkpoint=ask)
    assert SyncRequest.objects.count() == 2
    assert follower.tick() is True
    assert not SyncRequest.objects.exists()


def test_events_are_synced_after_a_moment_of_quiet(world: World, follower: VaultFollower) -> None:
    with time_machine.travel(utc_now()) as traveller:
        clock = Clock(follower, traveller)
        assert follower.tick() is True
        made = task()
        assert follower.tick() is not True  # it says when to look again
        clock.forward(0.9)
        assert follower.tick() is True
        assert (world.path / note_of(made)).exists()
        clock.forward(10)
        assert follower.tick() is False


def test_a_burst_is_gathered_for_five_seconds_at_most(world: World, follower: VaultFollower) -> None:
    with time_machine.travel(utc_now()) as traveller:
        clock = Clock(follower, traveller)
        follower.tick()
        synced_at = []
        for number in range(12):
            task(f"Task {number}")
            if follower.tick() is True:
                synced_at.append(number)
            clock.forward(0.5)
        assert synced_at == [10]


def test_the_interval_fetches_what_others_pushed(world: World, follower: VaultFollower) -> None:
    with time_machine.travel(utc_now()) as traveller:
        clock = Clock(follower, traveller)
        follower.tick()
        clone = world.clone()
        clone.write("k/a.md", "theirs\n")
        clone.push()
        clock.forward(240)
        assert follower.tick() is False
        clock.forward(61)
        assert follower.tick() is True
        assert world.text("k/a.md") == "theirs\n"
        clock.forward(6 * 3600)
        assert follower.tick() is True
        assert SyncRun.objects.first().full is True


@pytest.mark.parametrize("back", [81, -86_400], ids=["its time has come", "clock set back"])
def test_a_failing_remote_is_tried_again_with_back_off(world: World, follower: VaultFollower, back: float) -> None:
    with time_machine.travel(utc_now(), tick=False) as traveller:
        clock = Clock(follower, traveller)
        follower.tick()
        away = world.remote.rename(world.folder / "away.git")
        task()
        follower.tick()
        clock.forward(1)
        assert follower.tick() is True
        back_offs = []
        for _ in range(4):
            back_offs.append((VaultState.objects.get().remote_retry_at - utc_now()).total_seconds())
            clock.forward(back_offs[-1] - 1)
            assert follower.tick() is False
            clock.forward(1)
            assert follower.tick() is True
        assert back_offs == [5, 10, 20, 40]
        away.rename(world.remote)
        clock.forward(back)
        assert follower.tick() is True
        assert VaultState.objects.get().remote_failures == 0


def test_while_another_process_works_in_the_vault_the_daemon_waits(world: World, follower: VaultFollower) -> None:
    with vault_lock(world.vault.state_dir, wait_seconds=0):
        assert follower.tick() is False
    assert follower.tick() is True
