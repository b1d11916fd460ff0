"""A take-over that is killed at any step converges when it is started again."""

from __future__ import annotations

import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from tests.support import old_service
from tests.support.installation import ROOT, Installation

pytestmark = pytest.mark.sqlite("the older service's files")

KILLS_IN_A_SOAK = 80


@dataclass
class Undisturbed:
    """What a take-over that nothing disturbs leaves, and the statements and how many steps it takes."""

    expected: dict
    statements: list[str]
    steps: int


def killed(installation: Installation, *step: str) -> subprocess.CompletedProcess[str]:
    return installation.run("-m", "tests.support.killed_migrate", *step)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The state directory that every take-over begins with: the same, its times included."""
    folder = tmp_path_factory.mktemp("original")
    old_service.make_database(folder, 1)
    old_service.make_json(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(original: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    installation = copy_of(original, tmp_path_factory.mktemp("undisturbed"))
    done = killed(installation)
    assert done.returncode == 0, done.stderr
    expected = old_service.dump(installation.state / "lobmob.db")
    expected["schema_version"] = [row[:2] for row in expected["schema_version"]]
    *statements, steps = done.stdout.splitlines()
    return Undisturbed(expected, statements, int(steps))


def copy_of(original: pathlib.Path, folder: pathlib.Path) -> Installation:
    installation = Installation(folder)
    del installation.environment["LOBWIFE_SECRET_KEY"]
    shutil.copytree(original, installation.state, dirs_exist_ok=True)
    return installation


def has_converged(installation: Installation, original: pathlib.Path, expected: dict) -> None:
    state = installation.state
    after = old_service.dump(state / "lobmob.db")
    after["schema_version"] = [row[:2] for row in after["schema_version"]]  # when is another time
    assert after == expected
    assert old_service.dump(state / "lobmob.db.pre-migration") == old_service.dump(original / "lobmob.db")
    left = {each.name for each in state.iterdir()} - {"lobmob.db-wal", "lobmob.db-shm"}
    assert left == {
        *("lobmob.db", "lobmob.db.gate", "lobmob.db.pre-migration", "migrate.lock", "secret-key"),
        *("jobs.json.migrated", "tasks.json.migrated", "token-audit.json.migrated"),
    }


def kill_at(steps: list[int], original: pathlib.Path, undisturbed: Undisturbed, folder: pathlib.Path) -> None:
    for step in steps:
        installation = copy_of(original, folder / str(step))
        assert killed(installation, str(step)).returncode == -signal.SIGKILL
        installation.manage("migrate", "-v0")
        has_converged(installation, original, undisturbed.expected)


@pytest.mark.slow
def test_killed_at_any_step_it_converges(
    original: pathlib.Path, undisturbed: Undisturbed, tmp_path: pathlib.Path
) -> None:
    count = undisturbed.steps
    # Copying, in the midst of the tables, renaming the JSON files.
    kill_at([8, count // 2, count - 1], original, undisturbed, tmp_path)


def test_what_makes_tables_and_what_records_it_are_one_transaction(undisturbed: Undisturbed) -> None:
    transactions = "\n".join(undisturbed.statements).split("\nCOMMIT\n")
    making = [each for each in transactions if "\nCREATE TABLE" in each and 'TABLE "django_migrations"' not in each]
    assert len(making) >= 8
    for each in making:
        assert 'INSERT INTO "django_migrations"' in each, each[:500]


def test_killed_again_and_again_it_converges(
    original: pathlib.Path, undisturbed: Undisturbed, tmp_path: pathlib.Path
) -> None:
    installation = copy_of(original, tmp_path / "killed")
    for part in (0.02, 0.3, 0.5):
        killed(installation, str(max(1, int(undisturbed.steps * part))))
    installation.manage("migrate", "-v0")
    has_converged(installation, original, undisturbed.expected)


@pytest.mark.soak
def test_killed_at_every_few_steps_and_at_random_moments_it_converges(
    original: pathlib.Path, undisturbed: Undisturbed, tmp_path: pathlib.Path
) -> None:
    count = undisturbed.steps
    every = max(1, count // KILLS_IN_A_SOAK)
    steps = [*range(1, 40), *range(40, count - 30, every), *range(count - 30, count + 1)]
    kill_at(steps, original, undisturbed, tmp_path)
    chance = random.Random(7)
    for number in range(30):
        installation = copy_of(original, tmp_path / f"random-{number}")
        process = installation.start(sys.executable, str(ROOT / "manage.py"), "migrate", "-v0")
        time.sleep(chance.uniform(0.2, 1.2))  # the moment is the point
        process.kill()
        process.wait()
        installation.manage("migrate", "-v0")
        has_converged(installation, original, undisturbed.expected)
