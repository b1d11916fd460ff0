"""kill -9 at every step of a sync: the next one ends with the same tree, and loses nothing."""

from __future__ import annotations

import pathlib
import shutil

import pytest

from tests.support.git_remote import STEPS, Copy, git
from tests.support.installation import Installation

# Before, in the midst of and after what is changed in the working copy, and between the rows and the remote.
FEW_STEPS = ("merged", "checkout-part", "recorded")


class Killed(Installation):
    """A lobwife with a vault and a remote, whose syncs can be killed."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.remote = folder / "remote.git"
        super().__init__(folder, VAULT_REPO=str(self.remote))
        git(folder, "init", "--quiet", "--bare", "-b", "main", str(self.remote))

    def sync(self, kill_at: str = "never", *flags: str) -> int:
        self.environment["VAULT_KILL_AT"] = kill_at
        return self.run("-c", "import tests.support.vault_killer", *flags).returncode

    def sql(self, *statements: str) -> None:
        with self.database() as database:
            for statement in statements:
                database.execute(statement)

    def task(self, name: str, type: str = "swe", status: str = "queued") -> None:
        self.sql(
            f"INSERT INTO tasks (name, type, status, created_at) VALUES ('{name}', '{type}', '{status}', "
            "'2026-01-01 00:00:00')",
            "INSERT INTO task_events (task_id, event_type) SELECT max(id), 'created' FROM tasks",
        )

    def update(self, number: int, change: str) -> None:
        self.sql(
            f"UPDATE tasks SET {change} WHERE id = {number}",
            f"INSERT INTO task_events (task_id, event_type) VALUES ({number}, 'updated')",
        )

    def tree(self) -> dict[str, str]:
        """Every note's content in the remote."""
        paths = git(self.remote, "ls-tree", "-r", "--name-only", "main", "010-tasks").splitlines()
        return {path: git(self.remote, "show", f"main:{path}") for path in paths if "_overview" not in path}


def scenario(world: Killed) -> None:
    """Every kind of change at once, on both sides."""
    for number in range(1, 7):
        world.task(f"Task {number}")
    world.task("System", type="system")
    assert world.sync() == 0
    clone = Copy(world.folder / "clone", world.remote)
    clone.edit("010-tasks/active/T1.md", "pending.*", "pending.* Theirs.")
    clone.edit("010-tasks/active/T2.md", "priority: normal", "priority: normal\nmine: 1")
    clone.edit("010-tasks/active/T7.md", "status: queued", "status: system-active\nassigned_to: lobsigliere")
    clone.write("030-knowledge/fact.md", "A fact.\n")
    (clone.folder / "010-tasks/active/T3.md").unlink()
    clone.push()
    note = world.vault / "010-tasks/active/T4.md"
    note.write_text(note.read_text().replace("pending.*", "pending.* Ours."))
    (world.vault / "010-tasks/failed/T5.md").write_bytes((world.vault / "010-tasks/active/T5.md").read_bytes())
    world.update(1, "status = 'completed'")
    world.update(4, "status = 'active', assigned_to = 'lobster-4'")
    world.update(7, "priority = 'high'")
    world.task("Later")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """An installation right before the sync that is to be killed."""
    world = Killed(tmp_path_factory.mktemp("prepared"))
    world.migrate()
    scenario(world)
    return world


def copy_of(prepared: Killed, folder: pathlib.Path) -> Killed:
    shutil.copytree(prepared.folder, folder, symlinks=True, dirs_exist_ok=True)
    world = Killed(folder)
    world.copy_database(prepared)
    git(world.vault, "remote", "set-url", "origin", str(world.remote))
    return world


@pytest.fixture(scope="module")
def undisturbed(prepared: Killed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tree of a sync that nobody killed."""
    world = copy_of(prepared, tmp_path_factory.mktemp("undisturbed"))
    assert world.sync("never", "--fetch", "--full") == 0
    return world.tree()


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=() if step in FEW_STEPS else pytest.mark.soak) for step in STEPS]
)
def test_a_sync_killed_at_any_step_is_completed_by_the_next(
    tmp_path: pathlib.Path, prepared: Killed, undisturbed: dict[str, str], step: str
) -> None:
    world = copy_of(prepared, tmp_path)
    assert world.sync(step, "--fetch", "--full") == -9
    (world.vault / ".git/index.lock").touch()  # as a git that was killed with it leaves it
    assert world.sync("never", "--fetch") == 0
    assert world.tree() == undisturbed
    assert "status: system-active" in undisturbed["010-tasks/active/T7.md"]
    assert git(world.vault, "status", "--porcelain") == ""
    assert git(world.vault, "rev-parse", "HEAD") == git(world.remote, "rev-parse", "main")
    with world.database() as database:
        assert database.execute("SELECT status, assigned_to FROM tasks WHERE id = 7").fetchone()[:] == (
            "active",
            "lobsigliere",
        )
        state = database.execute("SELECT committed, pushed FROM vaultsync_vaultstate").fetchone()
        newest = database.execute("SELECT max(id) FROM task_events").fetchone()[0]
    assert state[0] == state[1] >= newest - 1  # the claim's own event may come with the next sync


@pytest.mark.parametrize(
    "steps",
    [
        ("checkout-part", "committed"),
        pytest.param(("commit-made", "checked-out", "pushed"), marks=pytest.mark.soak),
    ],
    ids=["few", "others"],
)
def test_the_first_sync_can_be_killed_too(tmp_path: pathlib.Path, steps: tuple[str, ...]) -> None:
    world = Killed(tmp_path)
    world.migrate()
    world.task("One")
    for step in steps:
        shutil.rmtree(world.vault, ignore_errors=True)
        shutil.rmtree(world.remote)
        git(tmp_path, "init", "--quiet", "--bare", "-b", "main", str(world.remote))
        world.sql("DELETE FROM vaultsync_vaultstate", "DELETE FROM vaultsync_noterecord")
        assert world.sync(step) == -9, step
        assert world.sync() == 0
        assert "010-tasks/active/T1.md" in world.tree()
        assert (world.vault / "README.md").exists()
        assert git(world.vault, "status", "--porcelain") == ""
