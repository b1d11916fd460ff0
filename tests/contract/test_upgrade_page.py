"""docs/upgrade.md can be followed: what is typed into the old pod works in one that has as little as it has."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.support.container import Container, give
from tests.support.installation import ROOT
from tests.support.old_service import make_database

pytestmark = pytest.mark.sqlite("the older service's file")

PAGE = (ROOT / "docs" / "upgrade.md").read_text()
BEFORE = PAGE.partition("## Before")[2].partition("## The change")[0]
IN_THE_OLD_POD = re.findall(r"^ *kubectl -n lobmob exec deploy/lobwife -- (.*)$", BEFORE, re.MULTILINE)
# What is on the older service's path, as far as the page relies on it: no sqlite3, none of ours.
TOOLS = ("python3", "ls", "df", "cat")


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    path = pathlib.Path(tempfile.mkdtemp(prefix="lobwife-upgrade-"))
    yield path
    shutil.rmtree(path)


def in_the_old_pod(folder: pathlib.Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where the volume is at /home/lobwife and the working directory is another."""
    tools = folder / "tools"
    if not tools.exists():
        tools.mkdir()
        for name in TOOLS:
            (tools / name).symlink_to(
                os.path.realpath(sys.executable) if name == "python3" else str(shutil.which(name))
            )
    mounts = f"mount -t tmpfs tmpfs /home && mkdir /home/lobwife && mount --bind {folder}/volume /home/lobwife"
    command = command.replace("/tmp/copy.db", f"{folder}/copy.db")
    words = ["unshare", "--mount", "bash", "-c", f"{mounts} && cd / && PATH={tools} && {command}"]
    return subprocess.run(
        [*(["sudo", "-n"] if os.geteuid() else []), *words],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )


def test_what_is_typed_into_the_old_pod_works_there(folder: pathlib.Path) -> None:
    (folder / "volume" / "state").mkdir(parents=True)
    database = make_database(folder / "volume" / "state", 2)
    assert len(IN_THE_OLD_POD) == 5
    for command in IN_THE_OLD_POD:
        command = command.partition(" > ")[0]
        assert shlex.split(command)[0] in TOOLS, command
        done = in_the_old_pod(folder, command)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert database.exists()
    copy = sqlite3.connect(folder / "copy.db")
    assert copy.execute("SELECT count(*) FROM tasks").fetchone() == (6,), "what was only in the WAL is in the copy"
    copy.close()


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [({"LOBMOB_ENV": "staging"}, 0, ""), ({"VAULT_SYNC_INTERVAL": "soon"}, 1, "VAULT_SYNC_INTERVAL is 'soon'")],
)
def test_the_image_beside_the_old_pod_judges_the_settings(
    folder: pathlib.Path, settings: dict[str, str], code: int, words: str
) -> None:
    [overrides] = re.findall(r"--overrides='(.*?)'", BEFORE, re.DOTALL)
    [container] = json.loads(overrides)["spec"]["containers"]
    (folder / "home").mkdir(mode=0o755)
    give(folder / "home", 1000)  # as it is in the image
    tried = Container(folder, folder / "home", *container["args"], **settings)
    assert tried.wait_for_end(120) == code, tried.log()
    assert words in tried.log()
    assert "Traceback" not in tried.log()
