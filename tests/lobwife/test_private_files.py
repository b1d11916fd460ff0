"""Nobody else on the machine reads what lobwife writes, in an open directory either; scripts keep their umask."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
from collections.abc import Iterator

import pytest

from core.database.backend import is_postgres
from tests.support.installation import Installation, wait_for
from tests.support.jobs import define, trigger


@pytest.fixture
def open_directory(tmp_path: pathlib.Path) -> Iterator[Installation]:
    """A state directory that others may enter, with what an earlier version left in it for everybody to read."""
    before = os.umask(0o022)
    made = Installation(tmp_path)
    made.state.chmod(0o755)
    for name in ("lobmob.db", "daemon.log")[is_postgres() :]:
        (made.state / name).touch(0o644)
    try:
        yield made
    finally:
        made.stop()
        os.umask(before)


def open_to_others(folder: pathlib.Path) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it was temporary
            if not path.is_dir() and stat.S_IMODE(path.lstat().st_mode) & 0o077:
                found.append(str(path.relative_to(folder)))
    return found


@pytest.mark.postgres
def test_what_is_written_is_private_and_scripts_keep_their_umask(open_directory: Installation) -> None:
    open_directory.manage("migrate", "-v0")
    open_directory.script("mask.sh", f"umask; touch {open_directory.folder}/made; env | grep -c LOBWIFE_UMASK || true")
    open_directory.start_web()
    open_directory.start_daemon()
    define(open_directory, {"name": "mask", "script": "mask.sh"})
    run = trigger(open_directory, "mask")
    wait_for(lambda: open_directory.get(f"/api/v1/runs/{run}").json["state"] == "success", 60, "the run")
    if is_postgres():
        open_directory.manage("backup")
    wait_for(lambda: list((open_directory.state / "backups").glob("*-*")), 60, "a kept copy")
    assert open_to_others(open_directory.state) == []
    assert stat.S_IMODE((open_directory.folder / "made").stat().st_mode) == 0o644
    assert open_directory.get("/api/jobs/mask").json["last_output"].split() == ["0022", "0"]
