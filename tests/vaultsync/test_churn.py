"""Tasks change in the middle of syncs while people push; in the end every note is right."""

from __future__ import annotations

import subprocess

import pytest

from tasks.models import Task, TaskEvent
from tests.support.git_remote import World, change, note_of, task
from vaultsync.models import NoteProblem, VaultState

pytestmark = pytest.mark.django_db
STATUSES = ("queued", "active", "completed", "failed", "cancelled", "blocked")


def test_many_tasks_change_while_syncs_run_and_every_note_ends_equal(world: World) -> None:
    churn(world, tasks=150, rounds=6)


@pytest.mark.soak
def test_ten_thousand_tasks_change_while_syncs_run(world: World) -> None:
    churn(world, tasks=10_000, rounds=8)


def churn(world: World, *, tasks: int, rounds: int) -> None:
    """Tasks change in the middle of syncs, people push in between; in the end every note says what its row says."""
    made = [task(f"Task {number}") for number in range(tasks)]
    world.synced()
    clone = world.clone()
    turn = 0

    def meddle(step: str) -> None:
        nonlocal turn
        if step not in ("commit-made", "committed", "fetched"):
            return
        turn += 1
        for number in range(turn % 7, tasks, 7):
            changes = {"status": STATUSES[(turn + number) % 6]}
            change(made[number], **changes, assigned_to=f"lobster-{turn}")

    for number in range(rounds):
        clone.pull()
        mine = next(path for path in sorted(clone.folder.rglob("T*.md")) if number % 2 or path.parent.name == "active")
        mine.write_text(mine.read_text() + f"Line {number}\n")
        clone.push()
        result = world.sync(fetch=bool(number % 2), checkpoint=meddle)
        assert not result.error
    world.synced()
    world.synced(fetch=False)
    state = VaultState.objects.get()
    assert state.pushed == state.committed == TaskEvent.objects.order_by("-pk")[0].pk
    listing = subprocess.run(["git", "ls-tree", "-r", "--name-only", "main"], cwd=world.remote, capture_output=True)
    paths = set(listing.stdout.decode().split())
    for each in Task.objects.all():
        folder = {"completed": "completed", "failed": "failed", "cancelled": "failed"}.get(each.status, "active")
        assert note_of(each, folder) in paths
        text = world.text(note_of(each, folder))
        assert f"\nstatus: {each.status}\n" in text
        assert (f"\nassigned_to: {each.assigned_to}\n" in text) == bool(each.assigned_to)
    assert len([path for path in paths if path.split("/")[-1].startswith("T") and path.endswith(".md")]) == tasks
    assert not NoteProblem.objects.exists()
