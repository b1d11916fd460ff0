"""The vault as people use it in Obsidian, and agents beside them: renames, copies, notes that were there first."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from tasks.models import Task
from tests.support.git_remote import World, change, git, note_of, task
from vaultsync.models import NoteProblem

pytestmark = [pytest.mark.django_db, pytest.mark.git]
LOBBOSS = "---\nid: fix-it\nname: Fix it\ntype: system\nstatus: queued\n---\n\n# Fix it\n\nWhat is to be done.\n"


def having(world: World, text: str) -> list[str]:
    return [path for path in world.files() if text in git(world.path, "show", f"HEAD:{path}")]


@pytest.mark.parametrize(
    "place", ["010-tasks/active/Fix the parser.md", "030-knowledge/T1 parser.md", "010-tasks/failed/x.md"]
)
@pytest.mark.parametrize("where", ["here", "there"])
def test_a_note_that_people_renamed_or_dragged_away_is_followed_by_its_id(world: World, place: str, where: str) -> None:
    made, other = task(), task("Other")
    world.synced()
    clone = world.clone()
    root = world.path if where == "here" else clone.folder
    text = (root / note_of(made)).read_text().replace("pending.*", "pending.*\n\nMine, and much longer than before.\n")
    (root / place).parent.mkdir(exist_ok=True, parents=True)
    (root / note_of(made)).unlink()
    (root / place).write_text(text)
    if where == "there":
        clone.push()
    change(other, priority="high")
    world.synced()
    world.synced(full=True)
    assert "Mine, and much longer" in world.text(note_of(made))
    assert having(world, "Mine, and much longer") == [note_of(made)]
    change(made, status="completed")
    world.synced(fetch=False)
    assert having(world, "Mine, and much longer") == [note_of(made, "completed")]


def test_a_note_that_is_renamed_just_when_its_task_changes_is_followed_too(world: World) -> None:
    made = task()
    world.synced()
    world.edit(note_of(made), "pending.*", "pending.* Mine.")
    (world.path / note_of(made)).rename(world.path / "030-knowledge/Parser.md")
    change(made, status="completed")
    world.synced(fetch=False)
    assert having(world, "Mine.") == [note_of(made, "completed")]
    world.synced()
    assert having(world, "Mine.") == [note_of(made, "completed")]


def test_an_import_makes_no_second_task_of_a_note_with_an_id_of_ours(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    made = task()
    world.synced()
    (world.path / note_of(made)).rename(world.path / "010-tasks/active/Parser.md")
    call_command("vault", "import")
    assert f"it is the note of {made.task_id}" in capsys.readouterr().out
    assert Task.objects.count() == 1


def test_a_copy_beside_is_no_second_task_and_goes_with_its_note(world: World) -> None:
    made = task(type="system")
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "pending", "theirs")
    clone.push()
    world.edit(note_of(made), "pending", "ours")
    world.synced()
    text = world.text(f"010-tasks/active/{made.task_id}.conflict.md")
    assert "ours" in text
    assert f"[[{made.task_id}]]" in text
    assert not any(line.startswith(("id:", "status:", "type:")) for line in text.splitlines())
    change(made, status="completed")
    world.synced()
    assert world.text(f"010-tasks/completed/{made.task_id}.conflict.md") == text
    assert not (world.path / f"010-tasks/active/{made.task_id}.conflict.md").exists()
    call_command("vault", "import")
    assert Task.objects.count() == 1


@pytest.mark.parametrize(
    "text", ["# Ideas\n\nMine.\n", "---\ntags: [idea]\n---\n\nMine.\n", "---\nid: T999\nname: x\n---\nMine.\n"]
)
def test_a_new_task_leaves_a_file_alone_that_only_has_its_slugs_name(world: World, text: str) -> None:
    world.synced()
    world.write("010-tasks/active/fix-it.md", text)
    made = task("Fix it", slug="fix-it")
    world.synced()
    assert world.text("010-tasks/active/fix-it.md") == text
    assert "pending" in world.text(note_of(made))


@pytest.mark.parametrize("first", ["the note", "the task", "the task's own note"])
def test_a_note_that_was_there_first_becomes_the_tasks_however_the_two_cross(world: World, first: str) -> None:
    world.synced()
    clone = world.clone()
    if first != "the note":
        made = task("Fix it", slug="fix-it", type="system")
        if first == "the task's own note":
            world.synced()
    clone.write("010-tasks/active/fix-it.md", LOBBOSS)
    clone.push()
    if first == "the note":
        made = task("Fix it", slug="fix-it", type="system")
    world.synced(fetch=first == "the task's own note")
    text = world.text(note_of(made))
    assert "What is to be done." in text
    assert "pending" not in text
    assert f"id: {made.task_id}\n" in text
    assert not having(world, "id: fix-it")
    assert not list(world.path.rglob("*.conflict*"))


def test_a_note_of_a_slug_is_reported_when_the_task_has_words_of_its_own(world: World) -> None:
    made = task("Fix it", slug="fix-it")
    world.synced()
    world.edit(note_of(made), "pending.*", "pending.* Mine.")
    world.synced()
    clone = world.clone()
    clone.write("010-tasks/active/fix-it.md", LOBBOSS)
    clone.push()
    world.synced()
    assert "Mine." in world.text(note_of(made))
    assert having(world, "What is to be done.") == ["010-tasks/active/fix-it.md"]
    assert NoteProblem.objects.get().path == "010-tasks/active/fix-it.md"


def test_scripts_have_an_identity_to_commit_with_and_people_keep_theirs(world: World) -> None:
    world.synced()
    assert git(world.path, "config", "--local", "user.email") == "lobwife@lobmob.local"
    git(world.path, "config", "--local", "user.email", "ada@example.org")
    world.synced()
    assert git(world.path, "config", "--local", "user.email") == "ada@example.org"


def test_a_sparse_checkout_is_refused_with_a_sentence(world: World) -> None:
    made = task()
    world.synced()
    git(world.path, "sparse-checkout", "set", "030-knowledge")
    change(made, priority="high")
    result = world.sync()
    assert "sparse checkout" in result.disabled
    git(world.path, "sparse-checkout", "disable")
    world.synced()
    assert "priority: high" in world.text(note_of(made))
