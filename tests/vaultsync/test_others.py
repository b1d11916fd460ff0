"""What others push: files that can't be placed, submodules, conflict markers, trees that git itself would refuse."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from core.git.command import Git
from tests.support.git_remote import PERSON, Copy, World, change, git, note_of, task
from tests.support.installation import ROOT, wait_for
from vaultsync.models import NoteProblem

pytestmark = [pytest.mark.django_db, pytest.mark.git]
MARKED = "<<<<<<< ours\n{}\n=======\nb\n>>>>>>> theirs\n"


def push_tree(clone: Copy, entries: dict[str, tuple[str, str]]) -> None:
    """Push a tree with these entries, made without the index: mode and content, or the id of a submodule's commit."""

    def make(lines: str) -> str:
        return subprocess.run(
            ["git", "mktree"], cwd=clone.folder, input=lines, text=True, capture_output=True, check=True
        ).stdout.strip()

    clone.pull()
    top = git(clone.folder, "ls-tree", "HEAD").splitlines()
    for path, (mode, content) in entries.items():
        blob = content
        if mode != "160000":
            (clone.folder.parent / "content").write_text(content)
            blob = git(clone.folder, "hash-object", "-w", str(clone.folder.parent / "content"))
        kind = "commit" if mode == "160000" else "blob"
        for part in reversed(path.split("/")[1:]):
            blob, mode, kind = make(f"{mode} {kind} {blob}\t{part}\n"), "040000", "tree"
        top.append(f"{mode} {kind} {blob}\t{path.split('/')[0]}")
    commit = git(clone.folder, "commit-tree", make("\n".join(top) + "\n"), "-p", "HEAD", "-m", "plumbing")
    git(clone.folder, "push", "--quiet", "origin", f"{commit}:main")


def remote_files(world: World) -> list[str]:
    return git(world.remote, "-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", "main").splitlines()


def problems(world: World) -> dict[str, str]:
    return dict(NoteProblem.objects.values_list("path", "sentence"))


def sync_some_more(world: World) -> None:
    for number in range(2):
        change(task(f"More {number}"), priority="high")
        assert not world.sync().error
        assert not world.sync(full=True).error


def test_submodules_are_left_and_reported(world: World) -> None:
    world.synced()
    clone = world.clone()
    commit = git(clone.folder, "rev-parse", "HEAD")
    push_tree(clone, {"sub": ("160000", commit)})
    sync_some_more(world)
    assert git(world.remote, "rev-parse", "main:sub") == commit
    assert "submodule" in problems(world)["sub"]


@pytest.mark.parametrize("is_repository", [False, True], ids=["ignored files", "another repository"])
def test_a_file_that_can_not_be_placed_is_left_and_reported_and_not_deleted_for_everyone(
    world: World, is_repository: bool
) -> None:
    world.write(".gitignore", "local/\n")
    git(world.folder, "init", "--quiet", "-b", "main", "vault")
    git(world.path, "remote", "add", "origin", str(world.remote))
    world.synced()
    clone = world.clone()
    world.write("k/local/mine.md", "mine\n")
    if is_repository:
        git(world.path / "k/local", "init", "--quiet")
    push_tree(clone, {"k/local": ("100644", "theirs\n")})
    sync_some_more(world)
    assert "k/local" in remote_files(world)
    assert "folder" in problems(world)["k/local"]
    assert world.text("k/local/mine.md") == "mine\n"
    (world.path / "k/local").rename(world.folder / "away")
    world.synced()
    assert world.text("k/local") == "theirs\n"
    assert "k/local" not in problems(world)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lower the limits of what is read; returns how many bytes each reading of contents had."""
    monkeypatch.setattr(Git, "largest", 20_000, raising=False)
    monkeypatch.setattr(Git, "batch_bytes", 10_000, raising=False)
    read, run = [], Git.run

    def spy(self: Git, *arguments: str, **options: Any) -> bytes:
        out = run(self, *arguments, **options)
        if arguments == ("cat-file", "--batch"):
            read.append(len(out))
        return out

    monkeypatch.setattr(Git, "run", spy)
    return read


def test_a_file_that_is_too_large_is_left_and_reported_and_not_deleted_for_everyone(
    world: World, limited: list[int]
) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    clone.write("k/large.bin", "x" * 30_000)
    clone.write("k/small.md", "small\n")
    clone.push()
    sync_some_more(world)
    (world.path / ".git/index").unlink()
    sync_some_more(world)
    assert world.text("k/small.md") == "small\n"
    assert not (world.path / "k/large.bin").exists()
    assert "k/large.bin" in remote_files(world)
    assert "larger than" in problems(world)["k/large.bin"]
    clone.pull()
    clone.write("k/large.bin", "small now\n")
    clone.push()
    world.sync()
    change(made, priority="high")
    assert not world.sync(fetch=False).error
    sync_some_more(world)
    assert world.text("k/large.bin") == git(world.remote, "show", "main:k/large.bin") + "\n" == "small now\n"
    assert "k/large.bin" not in problems(world)
    assert max(limited) < 20_000


@pytest.mark.parametrize("after", ["y" * 40_000, "small\n", None], ids=["as large", "small", "deleted"])
def test_a_large_file_of_the_working_copy_follows_the_remote(
    world: World, limited: list[int], after: str | None
) -> None:
    world.synced()
    world.write("k/large.bin", "x" * 30_000)
    world.synced()
    clone = world.clone()
    if after is None:
        (clone.folder / "k/large.bin").unlink()
    else:
        clone.write("k/large.bin", after)
    pushed = clone.push()
    sync_some_more(world)
    assert git(world.remote, "diff", "--name-only", pushed, "main", "--", "k") == ""
    assert (world.path / "k/large.bin").exists() == (after == "small\n")


def test_an_emptied_folder_deletes_no_large_file_for_everyone(world: World, limited: list[int]) -> None:
    world.synced()
    world.write("k/large.bin", "x" * 30_000)
    world.synced()
    for path in world.files():
        (world.path / path).unlink()
    sync_some_more(world)
    assert "k/large.bin" in remote_files(world)
    assert "larger than" in problems(world)["k/large.bin"]


def test_files_are_read_a_few_at_a_time(world: World, limited: list[int]) -> None:
    world.synced()
    clone = world.clone()
    for number in range(12):
        clone.write(f"k/{number}.bin", str(number % 10) * 4_000)
    clone.push()
    sync_some_more(world)
    assert world.text("k/11.bin") == "1" * 4_000
    assert 8_000 < max(limited) < 11_000


def test_a_note_of_over_a_mebibyte_is_reported_and_stays(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), "*The content", "x" * 2**20)
    clone.push()
    change(made, priority="high")
    sync_some_more(world)
    assert "larger than 1 MiB" in problems(world)[note_of(made)]
    assert "priority: high" not in git(world.remote, "show", f"main:{note_of(made)}")


def test_conflict_markers_are_never_pushed(world: World) -> None:
    made = task()
    world.synced()
    world.edit(note_of(made), "*The content", MARKED.format("mine") + "*The content")
    for name in ("board.canvas", "data.json", "text.txt"):
        world.write(f"k/{name}", MARKED.format("a"))
    change(made, priority="high")
    world.sync(fetch=False)
    change(made, status="completed")
    world.sync()
    note = git(world.remote, "show", f"main:{note_of(made, 'completed')}")
    assert "status: completed" in note
    assert "<<<<<<<" not in note
    assert "mine\n=======" in world.text(note_of(made, "completed"))
    assert not (world.path / note_of(made)).exists()
    assert not [path for path in remote_files(world) if path.startswith("k/")]
    assert {"k/board.canvas", "k/data.json", "k/text.txt"} <= problems(world).keys()


def test_gitmodules_stop_nothing(world: World) -> None:
    made = task()
    world.synced()
    clone = world.clone()
    commit = git(clone.folder, "rev-parse", "HEAD")
    evil = '[submodule "x"]\n\tpath = x\n\turl = ./x\n\tupdate = !true\n'
    push_tree(clone, {".gitmodules": ("100644", evil), "x": ("160000", commit)})
    sync_some_more(world)
    change(made, priority="high")
    assert not world.sync().error
    assert "priority: high" in git(world.remote, "show", f"main:{note_of(made)}")
    git(clone.folder, "fetch", "--quiet")
    git(clone.folder, "update-ref", "refs/heads/main", git(clone.folder, "rev-parse", "origin/main"))
    git(clone.folder, "-c", "submodule.recurse=false", "read-tree", "HEAD")
    git(clone.folder, "rm", "--quiet", "--cached", ".gitmodules", "x", check=False)
    assert not world.sync(full=True).error


def test_a_git_folder_of_a_remote_is_not_written(world: World) -> None:
    world.synced()
    push_tree(world.clone(), {"sub/.git/config": ("100644", "[core]\n\tfsmonitor = touch /tmp/evil\n")})
    sync_some_more(world)
    assert not (world.path / "sub/.git").exists()
    assert "sub/.git/config" in remote_files(world)
    assert "sub/.git/config" in problems(world)


def test_a_name_that_is_too_long_for_a_file_stops_nothing_else(world: World) -> None:
    world.synced()
    name = f"{'字' * 86}.md"
    push_tree(world.clone(), {f"k/{name}": ("100644", "theirs\n"), "other.md": ("100644", "theirs\n")})
    sync_some_more(world)
    assert world.text("other.md") == "theirs\n"
    assert f"k/{name}" in remote_files(world)
    assert "too long" in problems(world)[f"k/{name}"]


def test_a_file_that_can_not_be_read_stops_nothing_else(world: World) -> None:
    made = task()
    world.synced()
    os.mkfifo(world.path / "k.md")
    world.write("other.md", "mine\n")
    change(made, priority="high")
    assert not world.sync().error
    assert "other.md" in remote_files(world)
    (world.path / "k.md").unlink()


def test_a_file_that_both_sides_renamed_and_edited_has_the_lines_of_both(world: World) -> None:
    world.synced()
    lines = "".join(f"line {number}\n" for number in range(12))
    world.write("k/a.md", lines)
    world.synced()
    clone = world.clone()
    (clone.folder / "k/a.md").rename(clone.folder / "k/theirs.md")
    clone.edit("k/theirs.md", "line 5\n", "theirs\n")
    clone.push()
    (world.path / "k/a.md").rename(world.path / "k/ours.md")
    world.edit("k/ours.md", "line 5\n", "ours\n")
    world.synced()
    assert [path.name for path in (world.path / "k").iterdir()] == ["theirs.md"]
    assert world.text("k/theirs.md").splitlines()[4:8] == ["line 4", "ours", "theirs", "line 6"]


def test_a_git_that_outlives_its_daemon_is_ended_with_term(tmp_path: pathlib.Path) -> None:
    real = PERSON  # the environment of a person: nothing of ours
    wrapper = tmp_path / "bin/git"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f"#!/bin/sh\ntrap 'touch {tmp_path}/ended; exit' TERM\ntouch {tmp_path}/began\nsleep 30 & wait\n"
    )
    wrapper.chmod(0o755)
    code = (
        "import os, pathlib; from core.git.command import Git;"
        f"Git(pathlib.Path({str(tmp_path)!r})).network('fetch', url='/x', token=None)"
    )
    environment = {**os.environ, **real, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=ROOT)
    wait_for(lambda: (tmp_path / "began").exists())
    process.kill()
    process.wait()
    wait_for(lambda: (tmp_path / "ended").exists())


def test_git_lets_those_who_wait_for_an_answer_have_the_processor_first(tmp_path: pathlib.Path) -> None:
    alias = "alias.niceness=!until [ $(nice) -gt 9 ]; do sleep 0.01; done; nice"
    assert int(Git(tmp_path).text("-c", alias, "niceness", timeout=30)) > 9
