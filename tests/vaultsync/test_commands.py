"""The vault's commands: sync, import, accept-remote."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from tasks.models import Task
from tests.support.git_remote import World, change, git, note_of, task

pytestmark = pytest.mark.django_db


def test_the_sync_command_syncs_and_tells(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    made = task()
    call_command("sync")
    assert "pushed" in capsys.readouterr().out
    call_command("sync")
    assert "Nothing changed." in capsys.readouterr().out
    change(made, status="completed")
    call_command("sync", "--dry-run", "--full")
    out = capsys.readouterr().out
    assert note_of(made, "completed") in out
    assert not (world.path / note_of(made, "completed")).exists()
    call_command("sync", "--full")
    assert (world.path / note_of(made, "completed")).exists()


def test_the_sync_command_says_why_it_can_not(world: World) -> None:
    world.path.mkdir()
    world.write("something", "else")
    with pytest.raises(CommandError, match="not a git repository"):
        call_command("sync")


def test_notes_from_before_the_database_are_imported_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    made_before = task("Known", slug="known")
    world.synced()
    old = "---\nname: Old one\nstatus: completed\ncreated: 2025-01-02 03:04:05\nrepos: [org/a]\nmine: 1\n---\n\nBody.\n"
    world.write("010-tasks/completed/old-one.md", old)
    world.write("010-tasks/active/no-keys.md", "# A heading\n\nText.\n")
    world.write("010-tasks/active/broken.md", "---\na: b: c\n---\n")
    world.write("010-tasks/active/T999.md", "---\nid: T999\n---\n")
    world.edit(note_of(made_before), "status: queued", "status: failed")
    call_command("vault", "import", "--dry-run")
    assert Task.objects.count() == 1
    call_command("vault", "import")
    out = capsys.readouterr().out
    assert "2 imported, 2 skipped, 1 with drift." in out
    assert f"{note_of(made_before)}: status differ" in out
    made = Task.objects.get(slug="old-one")
    assert (made.name, made.status, made.created_at, made.repo_list) == (
        "Old one",
        "completed",
        "2025-01-02 03:04:05",
        ["org/a"],
    )
    assert Task.objects.get(slug="no-keys").name == "A heading"
    call_command("vault", "import")
    assert Task.objects.count() == 3
    world.synced()
    assert world.text(note_of(made, "completed")).endswith("mine: 1\n---\n\nBody.\n")
    assert not (world.path / "010-tasks/completed/old-one.md").exists()
    call_command("vault", "import")
    assert Task.objects.count() == 3


def test_a_number_that_the_database_can_not_hold_stops_no_import(world: World) -> None:
    world.synced()
    for name, minutes in (("one", "9" * 20), ("two", "9" * 5000), ("three", "30")):
        world.write(f"010-tasks/active/{name}.md", f"---\nname: {name}\nestimate_minutes: {minutes}\n---\n")
    call_command("vault", "import")
    imported = Task.objects.values_list("slug", "estimate_minutes")
    assert dict(imported) == {"one": None, "two": None, "three": 30}


def test_a_rewritten_remote_can_be_accepted(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    git(clone.folder, "commit", "--quiet", "--amend", "-m", "another history")
    git(clone.folder, "push", "--quiet", "--force")
    theirs = git(world.remote, "rev-parse", "main")
    change(made, priority="high")
    assert "accept-remote" in world.sync().remote_error
    call_command("vault", "accept-remote")
    world.synced()
    git(world.remote, "merge-base", "--is-ancestor", theirs, "main")
    assert "priority: high" in world.text(note_of(made))
