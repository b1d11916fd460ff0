"""Two clones edit at once, in every combination: nothing is lost, no marker is committed, histories stay."""

from __future__ import annotations

import itertools
import pathlib
import re
import subprocess

import pytest

from tasks.models import Task
from tests.support.git_remote import World, change, git, note_of, task
from vaultsync.models import NoteProblem

pytestmark = [pytest.mark.django_db, pytest.mark.git]
ACTIONS = ("key of theirs", "other key of theirs", "key of ours", "body", "move", "delete")
OWN = "---\nid: {id}\nname: x\nmine: start\nyours: start\nstatus: queued\n---\n\nThe body, long enough.\n"


def act(root: pathlib.Path, path: str, action: str, who: str) -> None:
    target = root / path
    if action == "delete":
        target.unlink()
    elif action == "move":
        folder = "completed" if who == "here" else "failed"
        target.rename(root / path.replace("/active/", f"/{folder}/"))
    else:
        old, new = {
            "key of theirs": ("mine: start", f"mine: {who}"),
            "other key of theirs": (f"{'mine' if who == 'here' else 'yours'}: start", f"added: {who}\nyours: {who}"),
            "key of ours": ("status: queued", f"status: {'active' if who == 'here' else 'completed'}"),
            "body": ("The body,", f"The body of {who},"),
        }[action]
        if action == "other key of theirs" and who == "here":
            new = "mine: start\nlocal: here"
        text = target.read_text()
        assert old in text
        target.write_text(text.replace(old, new, 1))


def everything(root: pathlib.Path) -> str:
    return "".join(
        path.read_text() for path in sorted(root.rglob("*.md")) if ".git" not in path.parts and path.is_file()
    )


@pytest.mark.parametrize("committed", [False, True], ids=["in the working copy", "committed here"])
def test_both_sides_edit_a_note_in_every_combination(world: World, committed: bool) -> None:
    pairs = list(itertools.product(ACTIONS, ACTIONS))
    notes: dict[tuple[str, str], Task] = {pair: task(" / ".join(pair)) for pair in pairs}
    world.synced()
    for made in notes.values():
        world.write(note_of(made), OWN.format(id=made.task_id))
    world.synced()
    clone = world.clone()
    for (here, there), made in notes.items():
        act(world.path, note_of(made), here, "here")
        act(clone.folder, note_of(made), there, "there")
    theirs = clone.push()
    if committed:
        git(world.path, "add", "-A")
        git(world.path, "commit", "--quiet", "-m", "here")
    ours = git(world.path, "rev-parse", "HEAD")
    world.synced()
    world.synced(full=True)
    for commit in (ours, theirs):
        git(world.remote, "merge-base", "--is-ancestor", commit, "main")
    for (here, there), made in notes.items():
        assert world.files().count(note_of(made)) == 1, (here, there)
        text = world.text(note_of(made))
        beside = world.path / f"010-tasks/active/{made.task_id}.conflict.md"
        assert "status: queued\n" in text, (here, there)
        kept = text + (beside.read_text() if beside.exists() else "")
        if here == there == "body":
            assert "body of there" in text
            assert "body of here" in beside.read_text()
            assert NoteProblem.objects.filter(path=note_of(made), kind="conflict").exists()
        elif here == there == "key of theirs":
            assert "mine: there\n" in text
            assert "mine: here\n" in beside.read_text()
        else:
            assert not beside.exists(), (here, there)
        if here == "body":
            assert "body of here" in kept, (here, there)
        if there == "body":
            assert "body of there" in kept, (here, there)
        if here == "key of theirs":
            assert "mine: here" in kept, (here, there)
        if there == "key of theirs":
            assert "mine: there" in text, (here, there)
        if here == "other key of theirs":
            assert "local: here" in text, (here, there)
        if there == "other key of theirs":
            assert "added: there" in text, (here, there)
        assert "The body" in text, (here, there)
    assert not re.search(r"^(<{7}|>{7})", everything(world.path), re.MULTILINE)


def test_keys_of_the_database_come_from_the_database(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "status: queued", "status: failed")
    clone.edit(note_of(made), "priority: normal", "priority: normal\nmine: 1")
    clone.push()
    change(made, status="completed", priority="high")
    world.synced(fetch=False)
    text = world.text(note_of(made, "completed"))
    assert "status: completed\n" in text
    assert "priority: high\nmine: 1\n" in text
    assert not (world.path / note_of(made, "failed")).exists()


def test_other_files_are_merged_line_by_line_or_put_beside(world: World) -> None:
    world.synced()
    lines = [f"line {number}\n" for number in range(20)]
    for path in ("k/text.md", "k/same.md", "k/data.bin", "k/moved.md", "k/gone.md", "k/script.sh"):
        world.write(path, "".join(lines) if not path.endswith("bin") else b"\0\1\2" * 50)
    world.synced()
    clone = world.clone()
    clone.edit("k/text.md", "line 2\n", "theirs\n")
    clone.edit("k/same.md", "line 5\n", "theirs\n")
    clone.write("k/data.bin", b"\0theirs")
    clone.edit("k/moved.md", "line 3\n", "theirs\n")
    (clone.folder / "k/gone.md").unlink()
    clone.write("k/new.md", "theirs\n")
    clone.write("folder/file.md", "theirs\n")
    clone.push()
    world.edit("k/text.md", "line 17\n", "ours\n")
    world.edit("k/same.md", "line 5\n", "ours\n")
    world.write("k/data.bin", b"\0ours")
    (world.path / "k/moved.md").rename(world.path / "k/elsewhere.md")
    world.edit("k/gone.md", "line 1\n", "ours\n")
    world.write("k/new.md", "ours\n")
    world.write("folder", "ours, a file\n")
    world.synced()
    assert "theirs\n" in world.text("k/text.md")
    assert "ours\n" in world.text("k/text.md")
    assert "theirs\n" in world.text("k/same.md")
    assert "ours\n" in world.text("k/same.conflict.md")
    assert (world.read("k/data.bin"), world.read("k/data.conflict.bin")) == (b"\0theirs", b"\0ours")
    assert "theirs\n" in world.text("k/elsewhere.md")
    assert not (world.path / "k/moved.md").exists()
    assert "ours\n" in world.text("k/gone.md")
    assert (world.text("k/new.md"), world.text("k/new.conflict.md")) == ("theirs\n", "ours\n")
    assert (world.text("folder/file.md"), world.text("folder.conflict")) == ("theirs\n", "ours, a file\n")


def test_a_renamed_file_does_not_take_the_place_of_another(world: World) -> None:
    world.synced()
    lines = "".join(f"line {number}\n" for number in range(20))
    for path in ("k/one.md", "k/two.md", "k/three.md"):
        world.write(path, f"{path}\n{lines}")
    world.synced()
    clone = world.clone()
    clone.write("k/first.md", "theirs, and new\n")
    (clone.folder / "k/two.md").rename(clone.folder / "k/second.md")
    clone.edit("k/three.md", "line 3\n", "theirs\n")
    clone.write("k/third.md", "theirs, and new as well\n")
    clone.push()
    (world.path / "k/one.md").rename(world.path / "k/first.md")
    world.write("k/second.md", "ours, and new\n")
    (world.path / "k/three.md").rename(world.path / "k/third.md")
    world.synced()
    assert (world.text("k/first.md"), world.text("k/first.conflict.md")) == (
        "theirs, and new\n",
        f"k/one.md\n{lines}",
    )
    assert (world.text("k/second.md"), world.text("k/second.conflict.md")) == (
        f"k/two.md\n{lines}",
        "ours, and new\n",
    )
    assert world.text("k/third.md") == "theirs, and new as well\n"
    assert world.text("k/third.conflict.md") == f"k/three.md\n{lines}".replace("line 3\n", "theirs\n")
    assert NoteProblem.objects.filter(kind="conflict").count() == 3


def test_a_file_with_conflict_markers_is_not_committed(world: World) -> None:
    world.synced()
    world.write("k/half.md", "<<<<<<< ours\na\n=======\nb\n>>>>>>> theirs\n")
    world.write("k/whole.md", "whole\n")
    result = world.sync()
    assert not result.error
    assert "k/half.md" not in world.files()
    assert "k/whole.md" in world.files()
    assert NoteProblem.objects.get().path == "k/half.md"


def test_untracked_files_in_the_way_are_kept(world: World) -> None:
    world.synced()
    clone = world.clone()
    clone.write("k/idea.md", "theirs\n")
    clone.push()
    world.write("k/idea.md", "ours\n")
    world.synced()
    assert (world.text("k/idea.md"), world.text("k/idea.conflict.md")) == ("theirs\n", "ours\n")


def test_an_empty_folder_in_the_way_does_not_delete_what_comes_in(world: World) -> None:
    world.synced()
    clone = world.clone()
    clone.write("k/idea", "theirs\n")
    clone.push()
    (world.path / "k/idea").mkdir(parents=True)
    world.synced()
    world.synced()
    assert world.text("k/idea") == "theirs\n"


def test_links_and_executables_come_as_they_are(world: World) -> None:
    world.synced()
    clone = world.clone()
    clone.write("bin/run.sh", "#!/bin/sh\n")
    (clone.folder / "bin/run.sh").chmod(0o755)
    (clone.folder / "bin/link").symlink_to("run.sh")
    clone.push()
    world.synced()
    assert (world.path / "bin/run.sh").stat().st_mode & 0o111
    assert (world.path / "bin/link").readlink() == pathlib.Path("run.sh")
    (clone.folder / "bin/link").unlink()
    clone.write("bin/link", "a file now\n")
    clone.push()
    world.synced()
    assert world.text("bin/link") == "a file now\n"


def test_the_vaults_hooks_and_attributes_do_nothing(world: World, tmp_path: pathlib.Path) -> None:
    made = task()
    world.synced()
    for name in ("pre-commit", "post-checkout", "pre-push", "post-merge", "reference-transaction"):
        hook = world.path / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
        hook.chmod(0o755)
    world.write(".gitattributes", "* text=auto eol=crlf\n*.md filter=evil\n")
    git(world.path, "config", "filter.evil.clean", f"touch {tmp_path}/ran; cat")
    world.write("k/dos.md", b"a\r\nb\n")
    change(made, priority="high")
    result = world.sync()
    assert not result.error
    assert not (tmp_path / "ran").exists()
    blob = subprocess.run(["git", "show", "HEAD:k/dos.md"], cwd=world.path, capture_output=True).stdout
    assert blob == b"a\r\nb\n"
