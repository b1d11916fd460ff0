"""What the image runs and is made of, as far as that can be seen without building it."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from lobwife import __version__
from tests.support.installation import ROOT, Installation, wait_for
from tests.support.old_service import dump, make_database, make_json

pytestmark = [pytest.mark.slow, pytest.mark.sqlite("the image with a volume")]

ENTRY = ROOT / "deploy" / "bin" / "lobwife"
LET_THROUGH = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
# A user who is not root, as in the container, who may nevertheless read this checkout wherever it is.
UNPRIVILEGED = ("--reuid", "1000", "--regid", "1000", "--clear-groups")
READING_ALL = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The entry in a folder that holds what the image gets, compiled as there, and nothing else."""
    app = tmp_path_factory.mktemp("app")
    for name in LET_THROUGH:
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, app / name)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(app)], check=True)
    return app / "deploy" / "bin" / "lobwife"


@pytest.fixture
def volume() -> Iterator[Installation]:
    """What the older service leaves: a database whose WAL was not checkpointed, JSON files, a vault with a note."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lobwife-volume-"))  # where the other user may go, too
    made = Installation(folder, LOBWIFE_PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="1")
    del made.environment["LOBWIFE_SECRET_KEY"]
    yield made
    made.stop()
    shutil.rmtree(folder)


def entry(shipped: pathlib.Path, installation: Installation, *arguments: str) -> subprocess.Popen[bytes]:
    """Started as in the container: by a user who is not root."""
    log = (installation.folder / "processes.log").open("ab")
    unprivileged = []
    if os.geteuid() == 0:
        unprivileged = ["setpriv", *UNPRIVILEGED, *READING_ALL]
        for path in (installation.folder, *installation.folder.rglob("*")):
            os.chown(path, 1000, 1000, follow_symlinks=False)
    process = subprocess.Popen(
        [*unprivileged, str(shipped), *arguments],
        env=installation.environment,
        cwd=installation.home,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    log.close()
    installation.processes.append(process)
    return process


def is_well(installation: Installation) -> bool:
    try:
        answer = installation.get("/health", timeout=5)
    except OSError:
        return False
    return answer.status == 200 and answer.json["status"] == "ok"


def test_web_and_daemon_start_side_by_side_on_the_older_services_volume(
    shipped: pathlib.Path, volume: Installation
) -> None:
    database = make_database(volume.state, 1)
    make_json(volume.state, "jobs.json")
    before = dump(database)
    web, daemon = entry(shipped, volume, "web"), entry(shipped, volume, "daemon")
    wait_for(lambda: is_well(volume) or web.poll() is not None or daemon.poll() is not None, 150, "both run")
    assert (web.poll(), daemon.poll()) == (None, None), volume.log()
    after = dump(database)
    width = len(before["tasks"][0])
    assert [row[:width] for row in after["tasks"]] == before["tasks"]
    assert (volume.state / "jobs.json.migrated").exists()
    assert volume.log().count("The first operator is admin, password ") == 1
    assert not volume.state.stat().st_mode & 0o007
    assert b"lobwife/icon." in volume.get("/", port=volume.web_port).body, "the project's own templates are there"
    volume.stop()
    with volume.database() as opened:  # the older service goes on with the file
        opened.execute("INSERT INTO tasks (name, type, requires_qa) VALUES ('by the older one', 'swe', 0)")
        opened.execute("INSERT INTO task_events (task_id, event_type) VALUES (last_insert_rowid(), 'created')")
        assert opened.execute("SELECT max(version) FROM schema_version").fetchone()[0] == 2


def test_other_words_are_commands_and_the_version_is_told(shipped: pathlib.Path, volume: Installation) -> None:
    assert entry(shipped, volume, "tasks", "--help").wait(90) == 0, volume.log()
    assert "usage: manage.py tasks" in volume.log()
    assert entry(shipped, volume, "--version").wait(90) == 0
    assert volume.log().strip().splitlines()[-1] == __version__
    assert (volume.home / ".gitconfig").exists() is False, "only where people come is there an identity"


def test_web_gives_shells_a_git_identity_that_people_may_change(shipped: pathlib.Path, volume: Installation) -> None:
    def identity() -> str:
        done = subprocess.run(
            ["git", "config", "--global", "user.name"],
            env=volume.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    volume.environment["LOBWIFE_WEB_PORT"] = "eighty"  # a start that ends where Python begins
    for name in ("lobwife", "Ada"):
        assert entry(shipped, volume, "web").wait(90) == 1
        assert identity() == name
        subprocess.run(["git", "config", "--global", "user.name", "Ada"], env=volume.environment, check=True)
    assert "LOBWIFE_WEB_PORT is 'eighty'" in volume.log()


def test_it_is_sound_shell() -> None:
    assert subprocess.run(["bash", "-n", str(ENTRY)], check=False).returncode == 0
    assert os.access(ENTRY, os.X_OK)


def test_everything_that_is_copied_is_there_and_let_through() -> None:
    assert all((ROOT / name).exists() for name in LET_THROUGH)
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name in re.findall(r"requirements[\w-]*\.txt", dockerfile):
        assert name in LET_THROUGH
    for name in re.findall(r"/opt/lobwife/app/(deploy/bin/\S+)", dockerfile):
        assert (ROOT / name).exists()
    assert {name for name in re.findall(r"^COPY (deploy/\S+)", dockerfile, re.MULTILINE)} <= set(LET_THROUGH)


def test_every_folder_with_pages_or_code_of_the_service_goes_in() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {"templates", *(path.parent.name for path in ROOT.glob("*/apps.py"))} <= let_through


def test_requirements_of_scripts_agree_with_those_of_the_service() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))

    service, scripts = pins("requirements.txt"), pins("requirements-scripts.txt")
    assert {"aiohttp", "pyyaml"} <= set(scripts)
    assert {name for name in scripts if service.get(name, scripts[name]) != scripts[name]} == set()
