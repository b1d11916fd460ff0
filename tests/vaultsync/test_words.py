"""The words of people: whatever the sync and others do to a note, nothing that somebody wrote in it is lost."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from tasks.models import Task
from tests.support.git_remote import World, change, git, note_of, task
from vaultsync.models import NoteProblem

pytestmark = [pytest.mark.django_db, pytest.mark.git]


def beside(world: World, made: Task, folder: str = "active") -> pathlib.Path:
    return world.path / f"010-tasks/{folder}/{made.task_id}.conflict.md"


def notes_in_head(world: World, made: Task) -> list[str]:
    return [path for path in world.files() if path.endswith(f"/{made.task_id}.md")]


def test_comments_blank_lines_order_and_quotes_survive_our_change_of_that_key(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "status: queued\n", "\n# why\n'status': \"queued\"  # because\n\nmine: 'x'\n")
    clone.push()
    change(made, status="active", priority="high")
    world.synced(fetch=False)  # the push is rejected, and what was written here made anew
    text = world.text(note_of(made))
    assert "\n\n# why\nstatus: active  # because\n\nmine: 'x'\n" in text
    assert "priority: high\n" in text
    assert text.index("type:") < text.index("# why") < text.index("created:")
    assert not beside(world, made).exists()


def test_a_note_that_is_lost_in_the_working_copy_comes_back_as_head_has_it(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "pending.*", "pending.* And theirs.")
    clone.push()
    world.synced()
    (world.path / note_of(made)).unlink()
    change(made, priority="high")
    world.synced(fetch=False)
    assert "And theirs." in world.text(note_of(made))


def test_a_note_that_somebody_deleted_and_pushed_comes_back_with_everybodys_words(world: World) -> None:
    first, second, third = task("One"), task("Two"), task("Three")
    world.synced()
    ada, bob = world.clone("ada"), world.clone("bob")
    for made in (first, second):
        ada.edit(note_of(made), "pending.*", "pending.* Ada's.")
    ada.push()
    bob.pull()
    for made in (first, second, third):
        (bob.folder / note_of(made)).unlink()
    bob.push()
    world.edit(note_of(second), "priority: normal", "priority: normal\nmine: here")
    world.edit(note_of(third), "pending.*", "pending.* Mine.")
    change(first, status="completed")
    world.synced()
    assert "Ada's." in world.text(note_of(first, "completed"))
    assert "Ada's." in world.text(note_of(second))
    assert "mine: here\n" in world.text(note_of(second))
    assert "Mine." in world.text(note_of(third))
    for made in (first, second, third):
        assert len(notes_in_head(world, made)) == 1


def test_of_two_notes_for_a_task_one_goes_only_if_nothing_in_it_is_missing_in_the_other(world: World) -> None:
    same, more = task("Same"), task("More")
    world.synced()
    world.write(note_of(same, "failed"), world.text(note_of(same)).replace("status: queued", "status: failed"))
    world.write(note_of(more, "failed"), world.text(note_of(more)).replace("---\n\n", "# a comment\nextra: 1\n---\n\n"))
    git(world.path, "add", "-A")
    git(world.path, "commit", "--quiet", "-m", "twins")
    world.synced(full=True)
    assert notes_in_head(world, same) == [note_of(same)]
    assert notes_in_head(world, more) == [note_of(more)]
    assert not beside(world, same).exists()
    assert "# a comment\nextra: 1\n" in beside(world, more).read_text()
    assert NoteProblem.objects.get(kind="conflict").path == note_of(more)


def test_a_line_that_is_appended_while_the_note_is_replaced_is_there_afterwards(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = task()
    world.synced()
    replace, lines = os.replace, []

    def late(source: Any, target: Any) -> None:
        if str(target).endswith(f"{made.task_id}.md") and len(lines) < most:
            lines.append(f"Line {len(lines)}.\n")
            with open(target, "a") as file:
                file.write(lines[-1])
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    for most in (3, 5, 6):
        change(made, priority=f"p{most}")
        world.sync(fetch=False)
    monkeypatch.undo()
    world.synced()
    assert len(lines) == 6
    for line in lines:
        assert line in world.text(note_of(made))
    assert "priority: p6\n" in world.text(note_of(made))


def test_an_edit_that_is_not_committed_yet_goes_along_when_its_note_moves(world: World) -> None:
    made = task()
    world.synced()

    def write(step: str) -> None:
        if step == "commit-made":
            world.edit(note_of(made), "pending.*", "pending.*\n\nAt the last moment.")

    change(made, status="completed")
    world.sync(fetch=False, checkpoint=write)
    world.synced()
    assert "At the last moment." in world.text(note_of(made, "completed"))
    assert notes_in_head(world, made) == [note_of(made, "completed")]
    assert not beside(world, made, "completed").exists()


def test_a_comment_after_the_last_key_on_both_sides_makes_no_copy(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "---\n\n", "# theirs\n---\n\n")
    clone.push()
    world.edit(note_of(made), "---\n\n", "# ours\n---\n\n")
    world.synced()
    assert {"# theirs", "# ours"} <= set(world.text(note_of(made)).splitlines())
    assert not beside(world, made).exists()
    assert not NoteProblem.objects.exists()


def test_edits_of_the_working_copy_made_while_the_remote_is_away_are_kept(world: World) -> None:
    made, other = task(), task("Other")
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "pending.*", "pending.*\n\nTheirs.")
    clone.push()
    away = world.remote.rename(world.folder / "away.git")
    change(made, status="completed", priority="high")
    world.sync()
    world.edit(note_of(made, "completed"), "# Fix the parser", "# Fix the parser\n\nMine.")
    world.edit(note_of(made, "completed"), "priority: high", "priority: high\nkey: mine")
    world.sync()
    change(other, priority="high")
    world.sync()
    away.rename(world.remote)
    world.synced()
    text = world.text(note_of(made, "completed"))
    assert "Mine." in text
    assert "Theirs." in text
    assert "status: completed\n" in text
    assert "priority: high\nkey: mine\n" in text
    assert "priority: high\n" in world.text(note_of(other))
    assert not beside(world, made, "completed").exists()
    assert not NoteProblem.objects.exists()


def test_commits_made_between_two_of_ours_while_the_remote_is_away_are_kept(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    clone.write("k/theirs.md", "theirs\n")
    clone.push()
    away = world.remote.rename(world.folder / "away.git")
    for number in range(3):
        change(made, priority=f"p{number}")
        world.sync()
        world.write(f"k/{number}.md", "mine\n")
        world.edit(note_of(made), "---\n\n", f"mine{number}: 1\n---\n\n")
        git(world.path, "add", "-A")
        git(world.path, "commit", "--quiet", "-m", "here")
    change(made, priority="last")
    world.sync()
    world.write("k/last.md", "mine\n")
    away.rename(world.remote)
    world.synced()
    assert {"k/theirs.md", "k/0.md", "k/1.md", "k/2.md", "k/last.md"} <= set(world.files())
    assert "mine0: 1\nmine1: 1\nmine2: 1\n" in world.text(note_of(made))
    assert "priority: last\n" in world.text(note_of(made))


def test_a_note_that_was_merged_and_then_deleted_comes_back_as_it_was_merged(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "# Fix the parser", "# Fix the parser\n\nTheirs.")
    clone.push()
    world.edit(note_of(made), "pending.*", "pending.*\n\nMine.")
    world.synced()
    git(world.path, "rm", "--quiet", note_of(made))
    git(world.path, "commit", "--quiet", "-m", "deleted here")
    world.synced()
    assert "Theirs." in world.text(note_of(made))
    assert "Mine." in world.text(note_of(made))


@pytest.mark.parametrize("place", ["010-tasks/failed/{id}.md", "030-knowledge/The title.md"])
@pytest.mark.parametrize("diverged", [False, True], ids=["as it was", "with a commit of ours"])
def test_a_note_that_was_moved_edited_and_deleted_there_comes_back_with_those_words(
    world: World, place: str, diverged: bool
) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    moved = clone.folder / place.format(id=made.task_id)
    moved.parent.mkdir(exist_ok=True)
    (clone.folder / note_of(made)).rename(moved)
    clone.push()
    moved.write_text(f"{moved.read_text()}Words of Ada.\n")
    clone.push()
    moved.unlink()
    clone.push()
    if diverged:
        world.write("k/mine.md", "mine\n")
        git(world.path, "add", "-A")
        git(world.path, "commit", "--quiet", "-m", "here")
    world.synced()
    assert "Words of Ada.\n" in world.text(note_of(made))
