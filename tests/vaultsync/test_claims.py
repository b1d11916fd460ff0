"""System tasks: an agent that knows only the vault claims and ends them there."""

from __future__ import annotations

import pytest

from tasks.models import Task
from tests.support.git_remote import World, change, git, note_of, task
from vaultsync.models import NoteProblem, NoteRecord
from vaultsync.notes import writer
from vaultsync.notes.claims import take_over
from vaultsync.notes.layout import CLAIMED

pytestmark = pytest.mark.django_db
CLAIM = "status: system-active\nassigned_to: lobsigliere\nassigned_at: 2026-03-01T10:00:00Z\n"


def system_task() -> Task:
    return task("Rotate the logs", type="system")


def test_a_claim_is_taken_over_and_stays_as_written(world: World) -> None:
    made = system_task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "status: queued\n", CLAIM)
    clone.push()
    world.synced()
    made.refresh_from_db()
    assert (made.status, made.assigned_to, made.assigned_at) == ("active", "lobsigliere", "2026-03-01T10:00:00Z")
    assert made.events.first().actor == "lobsigliere"
    for _ in range(3):
        world.synced(full=True)
        assert "status: system-active\n" in world.text(note_of(made))
    change(made, priority="high")
    world.synced()
    assert "status: system-active\n" in world.text(note_of(made))
    assert not NoteProblem.objects.exists()


def test_the_end_of_a_system_task_is_taken_over_and_the_note_moves(world: World) -> None:
    made, other = system_task(), system_task()
    world.synced()
    clone = world.clone()
    for each in (made, other):
        clone.edit(note_of(each), "status: queued\n", CLAIM)
    clone.push()
    world.synced()
    clone.pull()
    clone.edit(note_of(made), "status: system-active", "status: completed\ncompleted_at: '2026-03-01T11:00:00Z'")
    clone.edit(note_of(made), "pending.*", "pending.*\n\nDone, and how.")
    clone.edit(note_of(other), "status: system-active", "status: failed")
    clone.push()
    world.synced()
    made.refresh_from_db()
    other.refresh_from_db()
    assert (made.status, made.completed_at, other.status) == ("completed", "2026-03-01T11:00:00Z", "failed")
    assert "Done, and how." in world.text(note_of(made, "completed"))
    assert "status: failed\n" in world.text(note_of(other, "failed"))


def test_a_claim_that_comes_while_we_push_is_not_undone(world: World) -> None:
    made = system_task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "status: queued\n", CLAIM)
    clone.push()
    change(made, priority="high")
    world.synced(fetch=False)
    made.refresh_from_db()
    assert made.status == "active"
    text = world.text(note_of(made))
    assert "status: system-active\n" in text
    assert "priority: high\n" in text


def test_when_row_and_note_both_changed_the_row_wins_and_it_is_reported(world: World) -> None:
    made = system_task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "status: queued\n", CLAIM)
    clone.push()
    change(made, status="cancelled")
    world.synced()
    made.refresh_from_db()
    assert made.status == "cancelled"
    assert "status: cancelled\n" in world.text(note_of(made, "failed"))
    assert "both" not in world.text(note_of(made, "failed"))
    assert NoteProblem.objects.filter(kind="drift").exists()


def test_an_end_of_a_task_whose_row_changed_too_is_not_taken_over_by_half(world: World) -> None:
    made = system_task()
    change(made, status="active", assigned_to="lobsigliere")
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "status: active\n", "status: completed\ncompleted_at: 2026-03-01T11:00:00Z\n")
    clone.push()
    change(made, status="queued")
    row = Task.objects.filter(pk=made.pk).values(*CLAIMED).get()
    world.synced()
    assert Task.objects.filter(pk=made.pk).values(*CLAIMED).get() == row
    assert "completed_at" not in world.text(note_of(made))
    assert "its row changed too" in NoteProblem.objects.get(kind="drift").sentence


def test_a_row_that_changes_while_a_claim_is_judged_wins_and_it_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = system_task()
    world.synced()
    world.edit(note_of(made), "status: queued\n", CLAIM)

    def late(task: Task, changes: dict[str, str | None]) -> bool:
        change(made, status="cancelled")
        return take_over(task, changes)

    monkeypatch.setattr(writer, "take_over", late)
    world.synced()
    made.refresh_from_db()
    assert made.status == "cancelled"
    assert "status: cancelled\n" in world.text(note_of(made, "failed"))
    assert NoteProblem.objects.filter(kind="drift").exists()


def test_a_status_that_does_not_exist_is_not_taken_over(world: World) -> None:
    made = system_task()
    world.synced()
    world.edit(note_of(made), "status: queued", "status: finished-maybe")
    world.synced()
    made.refresh_from_db()
    assert made.status == "queued"
    assert "status: queued\n" in world.text(note_of(made))
    assert "finished-maybe" in NoteProblem.objects.get().sentence


def test_only_system_tasks_are_claimed_in_the_vault(world: World) -> None:
    made = task("Ordinary")
    world.synced()
    world.edit(note_of(made), "status: queued\n", CLAIM)
    world.synced()
    made.refresh_from_db()
    assert (made.status, made.assigned_to) == ("queued", None)
    assert "assigned_to" not in world.text(note_of(made))


def test_a_claim_from_before_this_service_is_taken_over(world: World) -> None:
    made = system_task()
    world.synced()
    world.edit(note_of(made), "status: queued\n", CLAIM)
    git(world.path, "commit", "--quiet", "-am", "as the older service left it")
    NoteRecord.objects.all().delete()
    world.synced(full=True)
    made.refresh_from_db()
    assert made.status == "active"
    assert "status: system-active\n" in world.text(note_of(made))


def test_our_own_write_that_was_cut_short_is_no_claim(world: World) -> None:
    made = system_task()
    world.synced()

    class Killed(BaseException):
        pass

    def kill(step: str) -> None:
        if step == "checkout-part":
            raise Killed

    change(made, status="active", assigned_to="someone")
    with pytest.raises(Killed):
        world.sync(checkpoint=kill)
    change(made, status="queued", assigned_to=None)
    world.synced()
    made.refresh_from_db()
    assert (made.status, made.assigned_to) == ("queued", None)
    assert "status: queued\n" in world.text(note_of(made))


def test_a_first_write_that_was_cut_short_makes_no_claim_of_what_an_older_note_says(world: World) -> None:
    made = system_task()
    world.synced()
    NoteRecord.objects.all().delete()  # as with a note of the older service, which was behind its row

    class Killed(BaseException):
        pass

    def kill(step: str) -> None:
        if step == "commit-made":
            raise Killed

    change(made, status="active", assigned_to="someone", assigned_at="2026-03-01T10:00:00Z")
    with pytest.raises(Killed):
        world.sync(checkpoint=kill)
    world.synced()
    made.refresh_from_db()
    assert (made.status, made.assigned_to) == ("active", "someone")
    assert "assigned_to: someone\n" in world.text(note_of(made))


def test_a_row_whose_status_somebody_made_up_stops_no_sync(world: World) -> None:
    made = system_task()
    world.synced()
    NoteRecord.objects.all().delete()  # as with a note of the older service
    Task.objects.filter(pk=made.pk).update(status="paused")
    world.synced(full=True)
    assert "status: paused\n" in world.text(note_of(made))


@pytest.mark.parametrize("away", [False, True], ids=["before the next fetch", "while the remote is away"])
def test_when_an_agent_claims_and_the_row_changes_before_the_fetch_the_row_wins_as_a_whole(
    world: World, away: bool
) -> None:
    made = system_task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "status: queued\n", CLAIM)
    clone.push()
    if away:
        remote = world.remote.rename(world.folder / "away.git")
    change(made, assigned_to="someone")
    world.sync(fetch=False)
    if away:
        remote.rename(world.remote)
    world.synced()
    made.refresh_from_db()
    assert (made.status, made.assigned_to, made.assigned_at, made.completed_at) == ("queued", "someone", None, None)
    text = world.text(note_of(made))
    assert "status: queued\n" in text
    assert "assigned_to: someone\n" in text
    assert "assigned_at" not in text
    assert "its row changed too" in NoteProblem.objects.get(kind="drift").sentence


def test_a_claim_with_a_time_that_can_not_be_read_is_taken_over_without_it(world: World) -> None:
    made = system_task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "status: queued\n", CLAIM.replace("2026-03-01T10:00:00Z", "just now"))
    clone.push()
    for _ in range(2):
        world.synced()
    made.refresh_from_db()
    assert (made.status, made.assigned_to, made.assigned_at) == ("active", "lobsigliere", None)
    assert "status: system-active\n" in world.text(note_of(made))
    assert "assigned_at is not a time" in NoteProblem.objects.get().sentence


def test_a_claim_that_waits_at_the_remote_is_seen_before_a_change_of_its_task_is_written(world: World) -> None:
    made = system_task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "status: queued\n", CLAIM)
    theirs = clone.push()
    change(made, name="Another name")
    world.synced(fetch=False)
    assert git(world.path, "rev-parse", "HEAD^") == theirs
    made.refresh_from_db()
    assert (made.status, made.assigned_to) == ("active", "lobsigliere")


def test_a_claim_made_in_the_working_copy_while_the_remote_is_away_is_taken_over(world: World) -> None:
    made = system_task()
    world.synced()
    away = world.remote.rename(world.folder / "away.git")
    change(made, assigned_to="lobsigliere")
    world.sync()
    world.edit(note_of(made), "status: queued\n", "status: system-active\n")
    world.sync()
    away.rename(world.remote)
    world.synced()
    made.refresh_from_db()
    assert (made.status, made.assigned_to) == ("active", "lobsigliere")
    text = world.text(note_of(made))
    assert "status: system-active\n" in text
    assert "assigned_to: lobsigliere\n" in text
    assert not NoteProblem.objects.exists()
