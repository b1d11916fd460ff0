"""Whatever state the working copy is found in, the sync puts it right or says why it won't."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from tests.support.git_remote import World, change, git, note_of, task
from vaultsync.models import NoteProblem, VaultState

pytestmark = [pytest.mark.django_db, pytest.mark.git]
LOCKS = ("index.lock", "packed-refs.lock", "refs/heads/main.lock", "refs/remotes/origin/main.lock", "refs/x/y.lock")


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    made = World(tmp_path)
    task("One")
    made.synced()
    return made


def diverge(world: World) -> None:
    """A conflict between here and the remote, as git sees it."""
    world.write("k/a.md", "start\n")
    world.synced()
    clone = world.clone(f"clone-{time.monotonic_ns()}")
    clone.write("k/a.md", "theirs\n")
    clone.push()
    world.write("k/a.md", "ours\n")
    git(world.path, "commit", "--quiet", "-am", "ours")
    git(world.path, "fetch", "--quiet")


@pytest.mark.parametrize("how", [("rebase",), ("rebase", "-i"), ("merge",)])
def test_an_unfinished_rebase_or_merge_is_ended(world: World, how: tuple[str, ...]) -> None:
    diverge(world)
    subprocess.run(["git", *how, "origin/main"], cwd=world.path, env={**os.environ, "GIT_EDITOR": "true"})
    assert "<<<<<<<" in world.text("k/a.md")
    result = world.synced()
    assert any("unfinished" in notice for notice in result.notices)
    assert (world.text("k/a.md"), world.text("k/a.conflict.md")) == ("theirs\n", "ours\n")
    rescued = git(world.path, "for-each-ref", "--format=%(refname)", "refs/lobwife/rescued/")
    assert "<<<<<<<" in git(world.path, "show", f"{rescued}:k/a.md")


def test_locks_whose_owner_is_gone_are_removed(world: World) -> None:
    locks = [world.path / ".git" / name for name in LOCKS]
    for lock in locks:
        lock.parent.mkdir(exist_ok=True)
        lock.touch()
        os.utime(lock, (time.time() - 3600,) * 2)
    change(task(), priority="high")
    notices = "\n".join(world.synced().notices)
    for lock in locks:
        assert f".git/{lock.relative_to(world.path / '.git')}" in notices
        assert not lock.exists()


def test_a_lock_that_may_be_in_use_is_left_and_said(world: World) -> None:
    lock = world.path / ".git/index.lock"
    lock.write_text("")
    change(task(), priority="high")
    result = world.sync()
    assert "index.lock" in result.error
    assert lock.exists()
    state = VaultState.objects.get()
    assert state.failures == 1
    assert state.retry_at
    lock.unlink()
    world.synced()
    assert VaultState.objects.get().failures == 0


def test_a_detached_head_is_attached(world: World) -> None:
    git(world.path, "checkout", "--quiet", "--detach")
    world.write("k/a.md", "while detached\n")
    git(world.path, "add", "-A")
    git(world.path, "commit", "--quiet", "-m", "detached")
    world.synced()
    assert world.text("k/a.md") == "while detached\n"


def test_a_head_detached_at_an_older_commit_loses_nothing(world: World) -> None:
    old = git(world.path, "rev-parse", "HEAD")
    world.write("k/new.md", "new\n")
    world.synced()
    git(world.path, "checkout", "--quiet", "--detach", old)
    world.write("k/a.md", "on the old one\n")
    world.synced()
    assert (world.text("k/new.md"), world.text("k/a.md")) == ("new\n", "on the old one\n")


def test_another_branch_is_not_touched(world: World) -> None:
    git(world.path, "checkout", "--quiet", "-b", "experiment")
    change(task(), priority="high")
    result = world.sync()
    assert "branch experiment" in result.error
    git(world.path, "checkout", "--quiet", "main")
    world.synced()


def test_an_unborn_branch_takes_the_remotes_history(world: World) -> None:
    made = task("Two")
    world.synced()
    shutil.rmtree(world.path)
    world.path.mkdir()
    git(world.path, "init", "--quiet", "-b", "main")
    git(world.path, "remote", "add", "origin", str(world.remote))
    world.write("k/mine.md", "was here\n")
    world.synced()
    assert world.text("k/mine.md") == "was here\n"
    assert (world.path / note_of(made)).exists()


def test_an_emptied_folder_is_filled_again(world: World) -> None:
    made = task("Two")
    world.synced()
    before = world.files()
    for entry in world.path.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    world.synced()
    assert world.files() == before
    assert (world.path / note_of(made)).exists()
    for entry in (world.path / "010-tasks/active").glob("*.md"):
        entry.unlink()
    change(made, priority="high")
    world.synced()
    assert set(world.files()) == set(before)


def test_a_vault_that_is_gone_is_cloned_again(world: World) -> None:
    clone = world.clone()
    clone.write("k/a.md", "kept\n")
    clone.push()
    shutil.rmtree(world.path)
    world.synced()
    assert world.text("k/a.md") == "kept\n"


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_broken_index_is_made_anew(world: World, content: bytes | None) -> None:
    index = world.path / ".git/index"
    if content is None:
        index.unlink()
    else:
        index.write_bytes(content)
    change(task(), priority="high")
    world.synced()


def test_an_index_with_an_unfinished_merge_stops_nothing_and_its_markers_are_not_committed(world: World) -> None:
    diverge(world)
    git(world.path, "merge", "origin/main", check=False)
    (world.path / ".git/MERGE_HEAD").unlink()
    made = task("Two")
    assert not world.sync().error
    assert "<<<<<<<" not in git(world.path, "show", "HEAD:k/a.md")
    assert note_of(made) in world.files()
    assert not git(world.path, "ls-files", "--unmerged")
    assert NoteProblem.objects.filter(path="k/a.md").exists()


def test_an_index_that_can_not_be_written_is_a_failure_in_a_sentence(
    world: World, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("git")
    wrapper = tmp_path / "bin/git"
    wrapper.parent.mkdir()
    refusal = "echo 'fatal: unable to write new index file' >&2; exit 128"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *" add --all"*) {refusal};; esac\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
        result = world.sync()
    assert "git add: fatal: unable to write new index file" in result.error
    assert VaultState.objects.get().retry_at
    assert world.sync().error == ""


def test_a_shallow_clone_is_completed(world: World) -> None:
    for number in range(3):
        change(task(), priority=f"p{number}")
        world.synced()
    shutil.rmtree(world.path)
    git(world.folder, "clone", "--quiet", "--depth", "1", f"file://{world.remote}", "vault")
    clone = world.clone()
    clone.write("k/a.md", "theirs\n")
    clone.push()
    change(task(), priority="high")
    world.synced(full=True)
    assert not (world.path / ".git/shallow").exists()
    assert world.text("k/a.md") == "theirs\n"


def test_commits_and_edits_made_by_hand_are_taken_along(world: World) -> None:
    made = task("Two")
    world.synced()
    world.edit(note_of(made), "pending.*", "pending.* Mine.")
    world.write("020-logs/lobsters/today.md", "log\n")
    git(world.path, "add", "-A")
    git(world.path, "commit", "--quiet", "-m", "logs")
    world.write("000-inbox/loose.md", "loose\n")
    change(made, status="completed")
    world.synced()
    assert "Mine." in world.text(note_of(made, "completed"))
    assert {"020-logs/lobsters/today.md", "000-inbox/loose.md"} <= set(world.files())
    clone = world.clone()
    assert clone.read("000-inbox/loose.md") == b"loose\n"


def test_a_read_only_vault_is_said_so_and_nothing_is_lost(world: World) -> None:
    made = task("Two")
    world.synced()
    committed = VaultState.objects.get().committed
    change(made, priority="high")
    subprocess.run(["mount", "--bind", str(world.path), str(world.path)], check=False, capture_output=True)
    done = subprocess.run(["mount", "-o", "remount,bind,ro", str(world.path)], check=False, capture_output=True)
    assert done.returncode == 0, f"this test needs the right to mount, as root has it: {done.stderr!r}"
    try:
        result = world.sync(fetch=False)
    finally:
        subprocess.run(["umount", str(world.path)], check=True)
    assert "read-only" in (result.error + result.disabled).lower()
    assert VaultState.objects.get().committed == committed
    world.synced(fetch=False)
    assert "priority: high" in world.text(note_of(made))


def test_a_full_disk_is_said_so_and_nothing_is_lost(tmp_path: pathlib.Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True)
    assert done.returncode == 0, f"this test needs the right to mount, as root has it: {done.stderr!r}"
    try:
        world = World(tmp_path, remote=False)
        world.path = disk / "vault"
        world.vault = type(world.vault)(world.path, "", tmp_path / "state")
        made = task("One")
        world.synced()
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for _ in range(1000):
                file.write(b"x" * 4096)
        for number in range(30):
            task(f"More {number}")
        change(made, priority="high")
        result = world.sync(fetch=False)
        assert result.error
        assert VaultState.objects.get().retry_at
        filler.unlink()
        world.synced()
        assert "priority: high" in world.text(note_of(made))
        assert len([path for path in world.files() if "/active/T" in path]) == 31
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_of_a_git_that_was_killed_under_a_living_daemon_stops_one_sync_at_most(
    world: World, name: str
) -> None:
    made = task("Two")
    world.synced()

    def leave_lock(step: str) -> None:
        if step == "fetched":
            path = world.path / ".git" / name
            path.parent.mkdir(exist_ok=True)
            path.touch()

    change(made, priority="high")
    world.sync(checkpoint=leave_lock)
    world.synced()
    assert "priority: high" in world.text(note_of(made))
    assert not (world.path / ".git" / name).exists()


def test_a_lock_that_can_not_be_removed_is_named_with_what_to_do(world: World) -> None:
    lock = world.path / ".git/refs/heads/main.lock"
    lock.mkdir()
    os.utime(lock, (time.time() - 3600,) * 2)
    assert ".git/refs/heads/main.lock can't be removed" in world.sync().error
    assert "remove it" in VaultState.objects.get().last_error
    lock.rmdir()
    world.synced()


def test_a_damaged_index_is_made_anew(world: World) -> None:
    made = task("Two")
    world.synced()
    index = world.path / ".git/index"
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 0xFF
    index.write_bytes(content)
    world.write("k/a.md", "mine\n")
    change(made, priority="high")
    world.synced()
    assert {"k/a.md", note_of(made)} <= set(world.files())


def test_an_unfinished_merge_beside_a_repository_without_a_commit_is_ended(world: World) -> None:
    diverge(world)
    (world.path / "k/own").mkdir()
    git(world.path / "k/own", "init", "--quiet")
    world.write("k/own/mine.md", "mine\n")
    git(world.path, "merge", "origin/main", check=False)
    assert world.sync().error == ""
    assert (world.text("k/a.md"), world.text("k/a.conflict.md")) == ("theirs\n", "ours\n")
    assert world.text("k/own/mine.md") == "mine\n"
    assert NoteProblem.objects.filter(path="k/own/").exists()


def test_a_broken_configuration_is_named_and_no_traceback(world: World) -> None:
    config = world.path / ".git/config"
    text = config.read_text()
    config.write_text("[core\n" + text)
    result = world.sync()
    assert ".git/config" in result.disabled
    assert ".git/config" in VaultState.objects.get().last_error
    config.write_text(text)
    world.synced()


def test_a_file_that_was_never_there_since_our_last_checkout_was_not_deleted_by_anybody(world: World) -> None:
    clone = world.clone()
    clone.write("k/a.md", "theirs\n")
    clone.push()
    git(world.path, "fetch", "--quiet")
    git(world.path, "update-ref", "refs/heads/main", git(world.path, "rev-parse", "origin/main"))
    world.synced()
    assert world.text("k/a.md") == "theirs\n"
    (world.path / "k/a.md").unlink()
    world.synced()
    assert "k/a.md" not in world.files()


@pytest.mark.parametrize("step", ["journal", "checkout-part", "checked-out"])
def test_a_commit_made_by_hand_after_a_sync_was_killed_reverts_nothing(world: World, step: str) -> None:
    made = task("Two")
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "pending.*", "pending.* Theirs.")
    clone.write("k/theirs.md", "theirs\n")
    clone.push()

    class Killed(BaseException):
        pass

    def kill(at: str) -> None:
        if at == step:
            raise Killed

    with pytest.raises(Killed):
        world.sync(checkpoint=kill)
    world.write("k/mine.md", "mine\n")
    git(world.path, "add", "-A")
    git(world.path, "commit", "--quiet", "-m", "by hand")
    world.synced()
    assert "Theirs." in world.text(note_of(made))
    assert (world.text("k/theirs.md"), world.text("k/mine.md")) == ("theirs\n", "mine\n")
