"""Tasks arrive in the vault, and the vault in its remote."""

from __future__ import annotations

import pathlib

import frontmatter
import pytest

from core.callers import Caller, Role
from tasks.models import TaskEvent
from tasks.results.services import add_link, write_result
from tests.support.git_remote import World, change, git, note_of, task
from vaultsync.models import NoteProblem, SyncRun, VaultState

pytestmark = pytest.mark.django_db
SYSTEM = Caller("tests", Role.SERVICE)


def state() -> VaultState:
    return VaultState.objects.get()


def test_a_newcomer_gets_a_vault_made_from_the_seed(tmp_path: pathlib.Path) -> None:
    world = World(tmp_path, remote=False)
    made = task()
    world.synced()
    for path in ("README.md", "AGENTS.md", "templates/task.md", "020-logs/lobsters/.gitkeep", note_of(made)):
        assert (world.path / path).is_file(), path
    assert git(world.path, "log", "--format=%an <%ae> %cn <%ce>", "-1") == (
        "lobwife sync <lobwife@lobmob.local> lobwife sync <lobwife@lobmob.local>"
    )
    assert state().committed == TaskEvent.objects.order_by("-pk")[0].pk
    assert (state().pushed, state().remote_state) == (None, "none")
    change(made, status="completed")
    assert world.synced(fetch=False).files == 2
    assert git(world.path, "log", "-1", "--format=%s") == "[sync] Update 2 vault file(s)"


def test_an_existing_remote_is_cloned(world: World) -> None:
    world.synced()
    copy = world.clone()
    copy.write("030-knowledge/fact.md", "A fact.\n")
    copy.push()
    other = world.elsewhere("second")
    other.synced()
    assert other.text("030-knowledge/fact.md") == "A fact.\n"


def test_a_new_task_gets_a_note_in_the_contracts_form(world: World) -> None:
    made = task(repos=["org/repo"], slug="fix-the-parser", estimate_minutes=30)
    change(made, assigned_to="lobster-swe-t42", assigned_at="2026-02-16T12:00:00Z", requires_qa=True, status="active")
    world.synced()
    assert world.text(note_of(made)) == (
        f"---\nid: {made.task_id}\nname: Fix the parser\ntype: swe\nstatus: active\ncreated: '{made.created_at}'\n"
        "priority: normal\nassigned_to: lobster-swe-t42\nassigned_at: '2026-02-16T12:00:00Z'\nestimate_minutes: 30\n"
        "slug: fix-the-parser\nrepos:\n- org/repo\nrequires_qa: true\n---\n\n# Fix the parser\n\n"
        "*The content of this task is pending.*\n"
    )


def test_what_came_of_a_task_is_in_its_note_beside_keys_of_people(world: World) -> None:
    made = task()
    world.synced()
    path, link = note_of(made), "https://github.com/org/app/pull/7"
    copy = world.clone()
    copy.write(
        path, world.text(path).replace("priority: normal\n", "priority: normal\nlinks: mine\ntask_links: mine\n")
    )
    copy.push()
    world.synced()
    assert "links: mine\ntask_links: mine\n" in world.text(path)
    add_link(task_id=made.pk, kind="pull", url=link, actor=None, caller=SYSTEM)
    write_result(task_id=made.pk, summary="Mended.\nAll: tests pass.", data=None, actor=None, caller=SYSTEM)
    world.synced()
    keys = frontmatter.loads(world.text(path)).metadata
    assert (keys["links"], keys["task_links"], keys["task_result"]) == ("mine", [link], "Mended. All: tests pass.")
    assert world.synced().files == 0


@pytest.mark.parametrize(
    ("status", "folder"),
    [("blocked", "active"), ("completed", "completed"), ("failed", "failed"), ("cancelled", "failed")],
)
def test_a_note_moves_with_its_status_and_git_sees_a_rename(world: World, status: str, folder: str) -> None:
    made = task()
    world.synced()
    world.edit(note_of(made), "pending.*\n", "pending.*\n\nMine, and long enough to be found again by git.\n")
    change(made, status=status)
    world.synced()
    assert "Mine" in world.text(note_of(made, folder))
    assert world.files().count(note_of(made, folder)) == 1
    if folder != "active":
        assert not (world.path / note_of(made)).exists()
        renames = git(world.path, "log", "-1", "--name-status", "-M40%", "--format=")
        assert any(line.startswith("R") and line.endswith(note_of(made, folder)) for line in renames.splitlines()), (
            renames
        )


def test_a_cleared_field_goes_from_the_note(world: World) -> None:
    made = task(assigned_to="lobster-1")
    world.synced()
    assert "assigned_to: lobster-1\n" in world.text(note_of(made))
    change(made, assigned_to=None)
    world.synced()
    assert "assigned_to" not in world.text(note_of(made))


def test_a_note_under_its_old_slug_is_kept_and_renamed(world: World) -> None:
    world.synced()
    made = task(slug="fix-the-parser")
    world.write("010-tasks/completed/fix-the-parser.md", "---\nname: Old\nmine: 1\n---\n\nThe old body.\n")
    world.synced()
    assert not (world.path / "010-tasks/completed/fix-the-parser.md").exists()
    text = world.text(note_of(made))
    assert text.endswith("mine: 1\n---\n\nThe old body.\n")
    assert "name: Fix the parser\n" in text


def test_a_slug_can_not_lead_out_of_the_vault(world: World, tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret.md").write_text("---\nname: x\n---\n")
    task(slug="../../../secret")
    task(slug="../../README")
    world.synced()
    assert (tmp_path / "secret.md").read_text() == "---\nname: x\n---\n"
    assert (world.path / "README.md").exists()


def test_nothing_changed_makes_no_commit(world: World) -> None:
    task()
    world.synced()
    before = world.commits()
    for full in (False, True, False):
        result = world.synced(full=full)
        assert result.files == 0
    assert world.commits() == before


def test_events_that_change_no_note_make_no_commit(world: World) -> None:
    made = task()
    world.synced()
    before = world.commits()
    change(made, token_count=3, broker_registered_at=None)
    world.synced(fetch=False)
    assert world.commits() == before
    assert state().committed == TaskEvent.objects.order_by("-pk")[0].pk


def test_only_what_changed_is_touched(world: World) -> None:
    notes = [task(f"Task {number}") for number in range(5)]
    world.synced()
    kept = {note_of(each): (world.path / note_of(each)).stat().st_mtime_ns for each in notes[1:]}
    change(notes[0], priority="high")
    world.synced(fetch=False)
    assert {path: (world.path / path).stat().st_mtime_ns for path in kept} == kept


def test_the_overview_counts_links_and_escapes(world: World) -> None:
    done = task("a|b\nc" + "d" * 60, status="completed")
    for number in range(21):
        task(f"Task {number}", type="research")
    world.synced()
    text = world.text("010-tasks/_overview.md")
    meta = frontmatter.loads(text).metadata
    assert (meta["total_tasks"], meta["queued"], meta["completed"], meta["blocked"]) == (22, 21, 1, 0)
    assert text.count("](active/T") == 20
    assert done.task_id + "]" not in text
    change(done, priority="high")
    later = task("x|y\r\n| z | " + "w" * 60, status="failed")
    world.synced()
    row = next(
        line
        for line in world.text("010-tasks/_overview.md").splitlines()
        if f"[{later.task_id}](failed/{later.task_id}.md)" in line
    )
    assert row.replace("\\|", "").count("|") == 7
    assert "x\\|y \\| z \\| w" in row


def test_a_name_does_nothing_in_the_notes_that_show_it(world: World) -> None:
    made = task("\x1b[31m<img src=//evil> ![x](//evil) `$= run` \\`=x` a < b `code` [1]", assigned_to="<b>\u202eme")
    world.synced()
    escaped = r"[31m\<img src=//evil> !\[x](//evil) \`$= run` \\\`=x` a < b `code` [1]"
    assert f"# {escaped}\n" in world.text(note_of(made))
    row = world.text("010-tasks/_overview.md").splitlines()[-1]
    assert r"| [31m\<img src=//evil> !\[x](//evil) \`$= ru |" in row
    assert r"| \<b> me |" in row


def test_a_full_sync_repairs_what_drifted(world: World) -> None:
    notes = [task(f"Task {number}") for number in range(4)]
    world.synced()
    world.edit(note_of(notes[1]), "pending.*", "pending.* And mine.")
    world.synced()
    (world.path / note_of(notes[0])).unlink()
    (world.path / note_of(notes[1])).rename(world.path / note_of(notes[1], "failed"))
    world.write(note_of(notes[2], "completed"), world.text(note_of(notes[2])) + "More.\n")
    world.edit(note_of(notes[3]), "status: queued", "status: completed")
    git(world.path, "add", "-A")
    git(world.path, "commit", "--quiet", "-m", "by hand")
    world.synced(full=True)
    assert "Task 0" in world.text(note_of(notes[0]))
    assert "And mine." in world.text(note_of(notes[1]))
    assert not (world.path / note_of(notes[1], "failed")).exists()
    assert not (world.path / note_of(notes[2], "completed")).exists()
    assert world.text(f"010-tasks/active/{notes[2].task_id}.conflict.md").endswith("More.\n")
    assert "status: queued\n" in world.text(note_of(notes[3]))
    assert {each.kind for each in NoteProblem.objects.all()} == {"conflict", "drift"}


def test_a_deleted_note_comes_back_with_its_body(world: World) -> None:
    made = task()
    world.synced()
    world.edit(note_of(made), "pending.*", "pending.* And mine.")
    change(made, priority="high")
    world.synced()
    copy = world.clone()
    (copy.folder / note_of(made)).unlink()
    copy.push()
    world.synced()
    world.synced(full=True)
    assert "And mine." in world.text(note_of(made))


def test_a_folder_that_is_something_else_is_never_touched(world: World) -> None:
    world.path.mkdir()
    world.write("holiday.jpg", "x")
    result = world.sync()
    assert "not a git repository" in result.disabled
    assert sorted(each.name for each in world.path.iterdir()) == ["holiday.jpg"]
    assert state().disabled_reason == result.disabled


def test_a_dry_run_says_what_it_would_do_and_does_nothing(world: World) -> None:
    world.synced()
    before = git(world.path, "rev-parse", "HEAD")
    made = task()
    result = world.sync(dry_run=True)
    assert result.paths == ["010-tasks/_overview.md", note_of(made)]
    assert not (world.path / note_of(made)).exists()
    assert git(world.path, "rev-parse", "HEAD") == before
    assert git(world.path, "status", "--porcelain") == ""


def test_syncs_are_kept_for_the_history(world: World) -> None:
    task()
    world.synced()
    run = SyncRun.objects.get()
    assert (run.full, run.pushed, run.error, run.commit) == (True, True, "", git(world.path, "rev-parse", "HEAD"))
    assert run.files > 1


def test_of_two_tasks_with_one_slug_one_keeps_the_note(world: World) -> None:
    world.write("010-tasks/active/twice.md", "---\nname: Twice\n---\n\nThe body.\n")
    git(world.path, "init", "--quiet", "-b", "main")
    git(world.path, "remote", "add", "origin", str(world.remote))
    first, second = task("Twice", slug="twice"), task("Twice", slug="twice")
    world.synced(full=True)
    assert "The body." in world.text(note_of(first))
    assert "pending" in world.text(note_of(second))
