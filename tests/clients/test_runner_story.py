"""A task's whole life: made by an operator, claimed, cloned, worked on, pushed, linked, completed, seen on its page."""

from __future__ import annotations

import pathlib
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar

import pytest

from tests.support.agents import AgentRunner
from tests.support.broker_rig import Rig
from tests.support.browser import OPERATOR, PASSWORD, make_operator, url
from tests.support.fleet import git
from tests.support.git_server import GitServer

AGENT = pathlib.Path(__file__).parent / "scripted_agent"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("story"))
    made.start_web()
    yield made
    made.stop()


@pytest.fixture
def git_server(rig: Rig, tmp_path: pathlib.Path) -> Iterator[GitServer]:
    """A server with one repository, which lets in whoever has a token of the broker."""
    remote = tmp_path / "org" / "repo"
    remote.mkdir(parents=True)
    git("init", "-q", "--bare", "-b", "main", str(remote), at=tmp_path)
    git("config", "http.receivepack", "true", at=remote)
    git("clone", "-q", str(remote), "work", at=tmp_path)
    git("checkout", "-q", "-B", "main", at=tmp_path / "work")
    (tmp_path / "work" / "README.md").write_text("# A repository\n")
    git("add", ".", at=tmp_path / "work")
    git("commit", "-qm", "Begin", at=tmp_path / "work")
    git("push", "-q", "origin", "main", at=tmp_path / "work")
    server = GitServer(tmp_path, lambda password: rig.github.token(f"token {password}") is not None)
    yield server
    server.stop()


@pytest.fixture
def agents(rig: Rig, git_server: GitServer, tmp_path: pathlib.Path) -> Iterator[AgentRunner]:
    key = rig.manage("apikey", "create", "box-3", "--role", "runner").stdout.strip()
    base = f"https://{git_server.host}"
    made = AgentRunner(tmp_path / "agents", rig, key, LOBWIFE_GIT_BASE=base, GIT_SSL_CAINFO=str(git_server.certificate))
    yield made
    made.stop()


def page_of(rig: Rig, number: int) -> str:
    """The text of a task's page, as an operator sees it."""
    make_operator(rig)
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    form = browser.open(url(rig, "/admin/login/")).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    assert token is not None
    fields = {"csrfmiddlewaretoken": token[1], "username": OPERATOR, "password": PASSWORD}
    target = f"/admin/tasks/task/{number}/change/"
    address = url(rig, f"/admin/login/?next={target}")
    request = urllib.request.Request(address, urllib.parse.urlencode(fields).encode(), {"Referer": address})
    answer = browser.open(request)
    assert answer.url == url(rig, target)
    return str(answer.read().decode())


def test_a_task_is_claimed_worked_on_and_completed_and_its_page_has_its_life(
    rig: Rig, git_server: GitServer, agents: AgentRunner, tmp_path: pathlib.Path
) -> None:
    number = rig.task(name="Write it down", body="Write it *down*.", type="swe", repos=["org/repo"])
    options = ("--types", "swe", "--name", "box-3", "--env", "GIT_SSL_CAINFO")
    assert agents.run(*options, "--", str(AGENT), timeout=60) == 0
    ended = rig.get(f"/api/v1/tasks/{number}").json
    assert ended["status"] == "completed", agents.log() + agents.output(number).read_text()
    assert ended["result"]["summary"] == f"The branch agent/T{number} has the work"
    [link] = ended["links"]
    assert (link["kind"], link["url"]) == (
        "branch",
        f"https://{git_server.host}/org/repo/tree/agent/T{number}",
    )
    remote = tmp_path / "org" / "repo"
    log = git("log", "-1", "--format=%an %s", f"agent/T{number}", at=remote)
    assert log == f"box-3 Do T{number}\n"
    written = git("show", f"agent/T{number}:done-T{number}.txt", at=remote)
    assert "Write it *down*." in written
    page = page_of(rig, number)
    for words in (
        "Claimed by box-3",
        "the work is committed",
        link["url"],
        "Released by box-3 (key:box-3) as completed",
    ):
        assert words in page, words
    leftovers = subprocess.run(
        ["grep", "-rlE", "ghs_|lw_[A-Za-z0-9]{20}", str(agents.state)], capture_output=True, text=True
    )
    assert leftovers.stdout == "", "no key and no token stays on the disk"
