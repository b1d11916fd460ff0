"""Whoever the image is started as, on whatever volume: it works, or says in one true sentence what to do."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

import pytest

from tests.support.container import Container, give
from tests.support.old_service import make_database

pytestmark = [pytest.mark.slow, pytest.mark.sqlite("the image with a volume")]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1yZ0a7Jc1mZ7S8C9bYl1yW2mYwZk0c3v5c0yq4n3bT somebody"


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    path = pathlib.Path(tempfile.mkdtemp(prefix="lobwife-image-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(folder: pathlib.Path) -> Iterator[Callable[..., Container]]:
    """Start the image on an old volume, an empty one, or none of one's own; all that were started end."""
    started: list[Container] = []

    def start(*arguments: str, old: bool = True, owner: int = 1000, **options: object) -> Container:
        volume = folder / "volume"
        if not volume.exists():
            volume.mkdir(mode=0o755)
            if old:
                (volume / "state").mkdir()
                make_database(volume / "state", 2)
        give(volume, owner)
        started.append(Container(folder, volume, *arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for container in started:
        container.stop()


@pytest.mark.parametrize(
    ("user", "old", "owner", "fs_group"),
    [
        ("0", True, 2000, None),
        ("2000", False, 0, 2000),
    ],
)
def test_it_works_as_this_user_on_this_volume(
    start: Callable[..., Container], user: str, old: bool, owner: int, fs_group: int | None
) -> None:
    """As lobwife on a volume of its group: tests/contract/test_rehearsal.py."""
    container = start(user=user, old=old, owner=owner, fs_group=fs_group)
    container.wait_until_well()
    assert container.request("GET", "/health").json["db"]["task_count"] == (6 if old else 0)
    made = container.request("POST", "/api/v1/tasks", {"name": "made"})
    assert made.status == 201, made.body
    uid = 1000 if user == "0" else int(user.partition(":")[0])
    assert (container.volume / "state" / "secret-key").stat().st_uid == uid
    assert not any(container.capabilities("lobwife-web") + container.capabilities("lobwife-daemon"))


@pytest.mark.parametrize(
    ("user", "old", "owner", "blocked"),
    [
        ("1000:1000", False, 0, "/home/lobwife,"),
        ("1000:1000", True, 0, "/home/lobwife/state,"),
        ("2000", True, 1000, "/home/lobwife/state,"),
    ],
)
@pytest.mark.parametrize("command", [[], ["web"], ["daemon"]], ids=["both", "web", "daemon"])
def test_it_says_who_may_not_write_what(
    start: Callable[..., Container], command: list[str], user: str, old: bool, owner: int, blocked: str
) -> None:
    container = start(*command, user=user, old=old, owner=owner)
    assert container.wait_for_end() == 1
    (sentence,) = container.log().splitlines()
    uid = user.partition(":")[0]
    assert sentence.startswith(
        f"lobwife: uid {uid} may not write {blocked} which belongs to uid {owner}: start once as"
    )


def test_a_database_that_may_not_be_written_is_named(start: Callable[..., Container], folder: pathlib.Path) -> None:
    start("--version").wait_for_end()
    state = folder / "volume" / "state"
    state.chmod(0o777)
    give(state, 0)
    container = Container(folder, folder / "volume")
    assert container.wait_for_end() == 1
    assert "uid 1000 may not write /home/lobwife/state/lobmob.db, which belongs to uid 0" in container.log()


def test_started_once_as_root_it_can_be_started_as_lobwife(
    start: Callable[..., Container], folder: pathlib.Path
) -> None:
    start("--version", user="0", owner=0).wait_for_end()
    container = Container(folder, folder / "volume", "migrate", "-v0")
    assert container.wait_for_end() == 0, container.log()


def test_root_who_may_not_become_lobwife_says_so(start: Callable[..., Container]) -> None:
    container = start(user="0", owner=0, capabilities="")
    assert container.wait_for_end() == 1
    (sentence,) = container.log().splitlines()
    assert sentence.startswith("lobwife: root may not become lobwife here: set runAsUser: 1000")
