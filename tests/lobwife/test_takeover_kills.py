"""A take-over that is killed at any step converges when it is started again."""

from __future__ import annotations

import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.support import old_service
from tests.support.installation import ROOT, Installation

KILLS_IN_A_RUN = 6
KILLS_IN_A_SOAK = 80


def killed(installation: Installation, *step: str) -> subprocess.CompletedProcess[str]:
    return installation.run("-m", "tests.support.killed_migrate", *step)


@pytest.fixture
def original(tmp_path: pathlib.Path) -> pathlib.Path:
    """The state directory that every take-over of a test begins with: the same, its times included."""
    folder = tmp_path / "original"
    folder.mkdir()
    old_service.make_database(folder, 1)
    old_service.make_json(folder)
    return folder


def copy_of(original: pathlib.Path, name: str) -> Installation:
    installation = Installation(original.parent / name)
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


def undisturbed(original: pathlib.Path) -> tuple[dict, int]:
    """What a take-over that nothing disturbs leaves, and how many steps it takes."""
    installation = copy_of(original, "undisturbed")
    done = killed(installation)
    assert done.returncode == 0, done.stderr
    expected = old_service.dump(installation.state / "lobmob.db")
    expected["schema_version"] = [row[:2] for row in expected["schema_version"]]
    return expected, int(done.stdout.splitlines()[-1])


def kill_at(original: pathlib.Path, steps: list[int], expected: dict) -> None:
    for step in steps:
        installation = copy_of(original, str(step))
        assert killed(installation, str(step)).returncode == -signal.SIGKILL
        installation.manage("migrate", "-v0")
        has_converged(installation, original, expected)


@pytest.mark.slow
def test_killed_at_any_step_it_converges(original: pathlib.Path) -> None:
    expected, count = undisturbed(original)
    first = [2, 8, 14]  # copying: few steps, each of its own kind
    spread = [count * part // (KILLS_IN_A_RUN - 2) for part in range(1, KILLS_IN_A_RUN - 2)]
    last = [count - 1]  # renaming the JSON files
    kill_at(original, sorted({*first, *spread, *last}), expected)


def test_what_makes_tables_and_what_records_it_are_one_transaction(original: pathlib.Path) -> None:
    statements = killed(copy_of(original, "undisturbed")).stdout.splitlines()
    transactions = "\n".join(statements).split("\nCOMMIT\n")
    making = [each for each in transactions if "\nCREATE TABLE" in each and 'TABLE "django_migrations"' not in each]
    assert len(making) >= 8
    for each in making:
        assert 'INSERT INTO "django_migrations"' in each, each[:500]


def test_killed_again_and_again_it_converges(original: pathlib.Path) -> None:
    expected, count = undisturbed(original)
    installation = copy_of(original, "killed")
    for part in (0.02, 0.1, 0.3, 0.3, 0.5):
        killed(installation, str(max(1, int(count * part))))
    installation.manage("migrate", "-v0")
    has_converged(installation, original, expected)


@pytest.mark.soak
def test_killed_at_every_few_steps_and_at_random_moments_it_converges(original: pathlib.Path) -> None:
    expected, count = undisturbed(original)
    every = max(1, count // KILLS_IN_A_SOAK)
    kill_at(original, [*range(1, 40), *range(40, count - 30, every), *range(count - 30, count + 1)], expected)
    chance = random.Random(7)
    for number in range(30):
        installation = copy_of(original, f"random-{number}")
        process = installation.start(sys.executable, str(ROOT / "manage.py"), "migrate", "-v0")
        time.sleep(chance.uniform(0.2, 1.2))  # the moment is the point
        process.kill()
        process.wait()
        installation.manage("migrate", "-v0")
        has_converged(installation, original, expected)
