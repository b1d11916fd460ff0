"""Repositories that are not as most: with ids of SHA-256, with another repository in one of their folders."""

from __future__ import annotations

import pathlib

import pytest

from tests.support.git_remote import World, change, git, note_of, task
from vaultsync.models import Kind, NoteProblem
from vaultsync.vault import Vault

pytestmark = [pytest.mark.django_db, pytest.mark.git]


def of_sha256(folder: pathlib.Path) -> World:
    """Its remote has a commit, the vault is not there yet."""
    world = World(folder, remote=False)
    seed = folder / "seed"
    git(folder, "init", "--quiet", "--object-format=sha256", "seed")
    for name in ("a.md", "gone.md"):
        (seed / "k").mkdir(exist_ok=True)
        (seed / "k" / name).write_text("start\n")
    git(seed, "add", "-A")
    git(seed, "commit", "--quiet", "-m", "start")
    git(folder, "clone", "--quiet", "--bare", "seed", "remote.git")
    world.vault = Vault(world.path, str(world.remote), world.vault.state_dir)
    return world


def test_a_vault_of_sha256_ids_is_synced_as_any(tmp_path: pathlib.Path) -> None:
    world = of_sha256(tmp_path)
    clone = world.clone()
    git(tmp_path, "clone", "--quiet", str(world.remote), "vault")
    made = task("One")
    world.synced()
    assert len(git(world.path, "rev-parse", "HEAD")) == 64
    clone.pull()
    clone.edit(note_of(made), "# One", "# One\n\nFrom there.")
    clone.push()
    change(made, status="completed")  # the note moves, which takes it out of the index
    (world.path / "k/gone.md").unlink()
    world.write("k/a.md", "edited here\n")
    for number in range(120):  # as many as are packed
        world.write(f"k/many/{number}.md", f"{number}\n")
    world.synced()
    assert "From there." in world.text(note_of(made, "completed"))
    assert not {"k/gone.md", note_of(made)} & set(world.files())
    assert "k/many/119.md" in world.files()
    clone.pull()
    clone.write("k/a.md", "edited there\n")
    (clone.folder / "k/many/0.md").unlink()
    (clone.folder / note_of(made, "completed")).unlink()
    clone.push()
    world.write("k/b.md", "new here\n")
    world.synced()
    assert world.text("k/a.md") == "edited there\n"
    assert not (world.path / "k/many/0.md").exists()
    assert "From there." in world.text(note_of(made, "completed")), "a lost note is what was last written"


def test_what_the_remote_adds_where_another_repository_lies_comes_in_beside_what_lies_there(
    tmp_path: pathlib.Path,
) -> None:
    world = World(tmp_path)
    made = task("One")
    world.synced()
    clone = world.clone()
    world.write("k/own/mine.md", "mine\n")
    git(world.path / "k/own", "init", "--quiet")
    git(world.path / "k/own", "add", "-A")
    git(world.path / "k/own", "commit", "--quiet", "-m", "own")
    assert world.sync().error == ""
    assert [(problem.path, problem.kind) for problem in NoteProblem.objects.all()] == [("k/own/", Kind.BLOCKED)]
    clone.write("k/own/theirs.md", "theirs\n")
    clone.write("k/own/mine.md", "theirs\n")
    clone.push()
    world.synced()
    problems = {problem.path: problem.sentence for problem in NoteProblem.objects.all()}
    beside = "k/own/mine.conflict.md"
    assert problems["k/own/mine.md"] == f"edited on both sides; ours is in {beside}"
    assert (world.text("k/own/theirs.md"), world.text(beside)) == ("theirs\n", "mine\n")
    assert {"k/own/theirs.md", "k/own/mine.md", beside} <= set(world.files())
    assert git(world.path / "k/own", "log", "--format=%s") == "own"
    change(made, priority="high")
    world.write("k/own/theirs.md", "edited here\n")
    world.synced()
    clone.pull()
    assert clone.read("k/own/theirs.md") == b"edited here\n"
