"""Two clones, the working copy and the tasks change at random; every line that somebody wrote and got in is kept."""

from __future__ import annotations

import os
import pathlib
import random
import subprocess
import time
from collections.abc import Callable

import pytest

from tasks.models import Task, TaskEvent
from tests.support.git_remote import STEPS, Copy, World, change, git, note_of, task
from vaultsync.models import NoteProblem, NoteRecord, VaultState
from vaultsync.notes.merge import has_conflict_markers

pytestmark = [pytest.mark.django_db, pytest.mark.git]
STATUSES = ("queued", "active", "completed", "failed", "cancelled", "blocked")
SOAK_SECONDS = float(os.environ.get("FUZZ_SECONDS", "1200"))


def test_no_line_is_lost_between_two_clones(world: World) -> None:
    Fuzz(world, 1).run(rounds=12)


@pytest.mark.soak
def test_no_line_is_lost_in_many_random_histories(tmp_path: pathlib.Path) -> None:
    first = int(os.environ.get("FUZZ_SEED", "1000"))
    until, seed = time.monotonic() + SOAK_SECONDS, first
    while time.monotonic() < until:
        folder = tmp_path / str(seed)
        folder.mkdir()
        for model in (TaskEvent, Task, NoteRecord, NoteProblem, VaultState):
            model.objects.all().delete()
        Fuzz(World(folder), seed).run(rounds=random.Random(seed).choice((6, 15, 30)))
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        print(f"seed {seed}: nothing lost", flush=True)
        seed += 1


class Killed(BaseException):
    """A sync that ends in the middle."""


class Fuzz:
    """Random changes of all sides; `lines` are those that must be in the remote in the end."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.seed = seed
        self.number = 0
        self.lines: set[str] = set()
        self.tasks = [task(f"Task {number}", type=self.random.choice(("swe", "system"))) for number in range(5)]
        world.synced(full=True)
        world.write("k/shared.md", "".join(f"line {number}\n" for number in range(20)))
        world.write("k/board.canvas", "{}\n")
        world.synced()
        self.clones = [world.clone("ada"), world.clone("bob")]
        self.tip = git(world.remote, "rev-parse", "main")

    def run(self, rounds: int) -> None:
        """Change and sync at random, then come to rest and look."""
        for _ in range(rounds):
            for _ in range(self.random.randint(1, 4)):
                self.random.choice(
                    (self.change_row, self.edit_here, self.edit_there, self.edit_there, self.commit_here)
                )()
            self.sync()
        self.rest()

    # --- changes
    def line(self) -> str:
        self.number += 1
        return f"Words {self.seed}-{self.number}."

    def change_row(self) -> None:
        made = self.random.choice(self.tasks)
        changes = {"status": self.random.choice(STATUSES), "priority": self.random.choice(("low", "high"))}
        change(made, **{name: value for name, value in changes.items() if self.random.random() < 0.6} or changes)
        if self.random.random() < 0.2:
            self.tasks.append(task(f"Task {len(self.tasks)}"))

    def edit_here(self) -> None:
        self.lines |= self.edit(self.world.path)

    def commit_here(self) -> None:
        self.lines |= self.edit(self.world.path)
        git(self.world.path, "add", "-A", check=False)
        git(self.world.path, "commit", "--quiet", "-m", "here", check=False)

    def edit_there(self) -> None:
        """Edit in a clone and push; where that clone's own git finds a conflict, the edit never was."""
        clone = self.random.choice(self.clones)
        if self.random.random() < 0.5:
            self.pull(clone)
        written = set()
        for _ in range(self.random.randint(1, 3)):
            written |= self.edit(clone.folder)
        git(clone.folder, "add", "-A")
        git(clone.folder, "commit", "--quiet", "-m", "there", check=False)
        if self.pull(clone) and self.world.remote.exists():
            git(clone.folder, "push", "--quiet", "origin", "HEAD:main")
            self.lines |= written

    def pull(self, clone: Copy) -> bool:
        done = subprocess.run(["git", "pull", "--quiet", "--rebase"], cwd=clone.folder, capture_output=True)
        if done.returncode:
            git(clone.folder, "rebase", "--abort", check=False)
            git(clone.folder, "reset", "--quiet", "--hard", "origin/main")
        return not done.returncode

    def edit(self, root: pathlib.Path) -> set[str]:
        """Do one thing to a file below a root; returns the lines that were written."""
        actions = (
            self.add_line,
            self.add_line,
            self.add_key,
            self.add_comment,
            self.move,
            self.delete_note,
            self.new_file,
        )
        return set(self.random.choice(actions)(root))

    def note(self, root: pathlib.Path) -> pathlib.Path | None:
        paths = [path for path in sorted((root / "010-tasks").rglob("*.md")) if not path.name.startswith("_")]
        return self.random.choice(paths) if paths else None

    def add_line(self, root: pathlib.Path) -> list[str]:
        others = [root / "k/shared.md", root / "k/board.canvas"]
        path = self.note(root) if self.random.random() < 0.6 else self.random.choice(others)
        if path is None or not path.exists():
            return []
        lines, line = path.read_text().splitlines(keepends=True), self.line()
        start = (
            next((n for n, text in enumerate(lines) if n and text == "---\n"), -1) + 1 if path.suffix == ".md" else 0
        )
        lines.insert(self.random.choice((len(lines), self.random.randint(start, len(lines)))), f"{line}\n")
        path.write_text("".join(lines))
        return [line]

    def add_key(self, root: pathlib.Path) -> list[str]:
        name = self.random.choice(("mine", "tags", f"key{self.number}"))
        return self.in_frontmatter(root, lambda line: f"{name}: {line}\n")

    def add_comment(self, root: pathlib.Path) -> list[str]:
        return self.in_frontmatter(root, lambda line: f"# {line}\n")

    def in_frontmatter(self, root: pathlib.Path, written: Callable[[str], str]) -> list[str]:
        path = self.note(root)
        text = path.read_text() if path else ""
        if path is None or not text.startswith("---\n") or "conflict" in path.name:
            return []
        lines, line = text.splitlines(keepends=True), self.line()
        added = written(line)
        name = added.partition(":")[0]
        end = lines.index("---\n", 1)
        if any(other.startswith(f"{name}:") for other in lines[:end]):
            return []
        lines.insert(self.random.randint(1, end), added)
        path.write_text("".join(lines))
        return [line]

    def move(self, root: pathlib.Path) -> list[str]:
        path = self.note(root)
        if path is not None and "conflict" not in path.name:
            place = self.random.choice(("010-tasks/active", "010-tasks/failed", "030-knowledge"))
            target = root / place / self.random.choice((path.name, f"{path.stem} renamed {self.number}.md"))
            if not target.exists():
                target.parent.mkdir(exist_ok=True, parents=True)
                path.rename(target)
        return []

    def delete_note(self, root: pathlib.Path) -> list[str]:
        path = self.note(root)
        if path is not None and "conflict" not in path.name and not git(root, "status", "--porcelain", "--", str(path)):
            path.unlink()  # of words that were never committed nothing is left
        return []

    def new_file(self, root: pathlib.Path) -> list[str]:
        line = self.line()
        target = root / "000-inbox" / self.random.choice(("idea.md", "idea.txt", f"{self.number}.md"))
        if target.exists():
            return []
        target.parent.mkdir(exist_ok=True, parents=True)
        target.write_text(f"{line}\n")
        return [line]

    # --- syncs
    def sync(self) -> None:
        chance = self.random.random()
        away = chance < 0.15
        if away:
            self.world.remote.rename(self.world.folder / "away.git")
        step = self.random.choice(STEPS) if chance > 0.75 else ""

        def kill(at: str) -> None:
            if at == step:
                raise Killed
            if self.random.random() < 0.05:
                self.lines.update(self.add_line(self.world.path))

        try:
            result = self.world.sync(
                fetch=self.random.random() < 0.6, full=self.random.random() < 0.15, checkpoint=kill
            )
            assert not result.error
        except Killed:
            pass
        if away:
            (self.world.folder / "away.git").rename(self.world.remote)
        tip = git(self.world.remote, "rev-parse", "main")
        git(self.world.remote, "merge-base", "--is-ancestor", self.tip, tip)
        self.tip = tip

    def rest(self) -> None:
        """Come to rest: then everything is in the remote, each note once, as its row says, and no marker anywhere."""
        self.world.sync()
        self.world.synced()
        self.world.synced(full=True)
        assert self.world.synced(full=True).files == 0, self.seed
        git(self.world.remote, "fsck", "--strict")
        paths = git(self.world.remote, "ls-tree", "-r", "--name-only", "main").splitlines()
        contents = {path: git(self.world.remote, "show", f"main:{path}") for path in paths}
        everything = "\n".join(contents.values())
        lost = sorted(line for line in self.lines if line not in everything)
        assert not lost, f"seed {self.seed} lost {lost}"
        assert not [path for path, text in contents.items() if has_conflict_markers(text.encode())]
        for made in self.tasks:
            made.refresh_from_db()
            folder = {"completed": "completed", "failed": "failed", "cancelled": "failed"}.get(made.status, "active")
            assert [path for path in paths if path.endswith(f"/{made.task_id}.md")] == [note_of(made, folder)], (
                self.seed
            )
            assert f"\nstatus: {made.status}\n" in contents[note_of(made, folder)], self.seed
