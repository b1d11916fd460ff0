"""A stranger's first minutes: a fresh clone and `make run`."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support.installation import ROOT, Installation, wait_for
from tests.support.jobs import NEVER
from tests.support.processes import alive, tree

pytestmark = pytest.mark.sqlite("make run without a URL")

# What a machine's pip needs to know stays; what lobwife would read does not.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy")


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
    """The project as a commit of the working tree's state would give it to a stranger."""
    target = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


@pytest.fixture
def started(clone: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Installation]:
    """An installation whose folders are the checkout's own; nothing runs yet."""
    made = Installation(tmp_path)
    ports = {name: made.environment[name] for name in ("LOBWIFE_WEB_PORT", "LOBWIFE_API_PORT")}
    machine = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("PIP_")}
    made.environment = machine | ports
    made.state = clone / "var" / "state"
    yield made
    made.stop()


def make(clone: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-C", str(clone), *arguments], capture_output=True, text=True, timeout=60)


def run_and_stop(
    installation: Installation,
    clone: pathlib.Path,
    stop: Callable[[int], None],
    meanwhile: Callable[[], None] = lambda: None,
) -> str:
    """`make run` until it is well, `meanwhile`, then `stop` with make's pid; what it said."""
    process = installation.start("make", "-C", str(clone), "run")

    def well() -> bool:
        with contextlib.suppress(OSError):
            return installation.get("/health", timeout=5).json["status"] == "ok"
        return False

    wait_for(lambda: process.poll() is not None or well(), 300, "it runs")
    assert process.poll() is None, installation.log()
    meanwhile()
    members = tree(process.pid)
    stop(process.pid)
    process.wait(30)
    wait_for(lambda: not alive(members), what="nothing is left")
    return installation.log()


def type_what_the_pages_show(installation: Installation, clone: pathlib.Path) -> None:
    """The newcomer's pages in a second terminal, from the first command to the last."""
    # A person takes as long to read the first screen: only then is there nothing that `doctor` finds to do.
    wait_for(lambda: [*(installation.state / "backups").glob("*.gz")], 60, "the first copy")
    wait_for(lambda: installation.get("/api/v1/sync").json.get("last_sync"), 60, "the first sync")
    for page in ("README.md", "docs/getting-started.md"):
        for block in re.findall(r"^```sh\n(.*?)^```$", (clone / page).read_text(), re.MULTILINE | re.DOTALL):
            typed = block.replace(":8080", f":{installation.web_port}").replace(":8081", f":{installation.api_port}")
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", typed.replace("* * * * *", NEVER)],  # not while it is triggered
                env=installation.environment,
                cwd=clone,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    wait_for((clone / "var/vault/010-tasks/active/T1.md").exists, 60, "the note")
    wait_for(lambda: installation.get("/api/jobs/count").json["last_status"] == "success", 60, "a run of one's own job")


@pytest.mark.soak  # pip installs everything, as `make test` itself does on a fresh clone
def test_a_fresh_clone_runs_by_one_command_and_again_without_a_network(
    started: Installation, clone: pathlib.Path
) -> None:
    first = run_and_stop(
        started,
        clone,
        lambda pid: os.killpg(pid, signal.SIGINT),  # as Ctrl-C does
        meanwhile=lambda: type_what_the_pages_show(started, clone),
    )
    assert f"http://127.0.0.1:{started.web_port}/" in first
    assert f"{clone}/var/vault" in first
    assert "password" in first
    assert (started.state / "lobmob.db").exists()
    assert not (clone / "var" / "check").exists()

    (started.folder / "processes.log").unlink()
    started.environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(clone / "nothing"), "PIP_NO_CACHE_DIR": "1"}
    again = run_and_stop(started, clone, lambda pid: os.kill(pid, signal.SIGTERM))
    assert "Installing" not in again
    assert "password" not in again


def test_make_alone_says_what_there_is() -> None:
    done = make(ROOT)
    assert done.returncode == 0
    targets = "run test test-fast soak bench screenshots lint format requirements audit release-check help"
    for target in targets.split():
        assert f"  make {target} " in done.stdout


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        (None, "There is no"),
        ("case $2 in *version_info*) exit 1;; esac", "older than Python 3.11"),
        ("case $2 in *ensurepip*) exit 1;; esac", "python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_refused_in_a_sentence(
    tmp_path: pathlib.Path, python: str | None, sentence: str
) -> None:
    interpreter = tmp_path / "python"
    if python:
        interpreter.write_text(f"#!/bin/sh\n{python}\nexit 0\n")
        interpreter.chmod(0o755)
    done = make(ROOT, "run", f"PYTHON={interpreter}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "venv").exists()
