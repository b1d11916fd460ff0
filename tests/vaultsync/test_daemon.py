"""The daemon and web together: what REST changes is in the remote a moment later."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.support.git_remote import git
from tests.support.installation import Installation, wait_for


@pytest.fixture
def running(tmp_path: pathlib.Path) -> Iterator[Installation]:
    git(tmp_path, "init", "--quiet", "--bare", "-b", "main", "remote.git")
    made = Installation(tmp_path, VAULT_REPO=str(tmp_path / "remote.git"))
    made.migrate()
    made.start_web()
    made.start_daemon()
    yield made
    made.stop()


def remote_text(running: Installation, path: str) -> str:
    return git(running.folder / "remote.git", "show", f"main:{path}", check=False)


@pytest.mark.postgres
def test_a_change_through_rest_reaches_the_remote(running: Installation) -> None:
    wait_for(lambda: running.get("/api/v1/sync").json.get("last_sync"), what="the first sync")
    assert running.get("/api/v1/sync").json["running"] is True
    task = running.post("/api/v1/tasks", {"name": "Fix the parser"}).json
    wait_for(lambda: "name: Fix the parser" in remote_text(running, f"010-tasks/active/{task['task_id']}.md"))
    running.request("PATCH", f"/api/v1/tasks/{task['id']}", {"status": "completed"})
    wait_for(lambda: "status: completed" in remote_text(running, f"010-tasks/completed/{task['task_id']}.md"))
    before = running.get("/api/v1/sync").json["last_commit"]
    assert before == git(running.folder / "remote.git", "rev-parse", "main")
    assert running.post("/api/v1/sync/trigger").json == {"status": "sync requested"}
    wait_for(lambda: running.get("/api/v1/sync").json["requests"] == 0, what="the request is served")
    running.manage("sync", "--full")
    assert running.get("/api/v1/sync").json["last_commit"] == before


def test_the_daemon_stops_at_once_and_goes_on_where_it_was(running: Installation) -> None:
    wait_for(lambda: running.get("/api/v1/sync").json.get("last_sync"), what="the first sync")
    daemon = running.processes[-1]
    daemon.kill()
    daemon.wait(15)
    task = running.post("/api/v1/tasks", {"name": "While it was down"}).json
    assert running.get("/api/v1/sync").json["pending_events"] == 1
    running.start_daemon()
    wait_for(lambda: "While it was down" in remote_text(running, f"010-tasks/active/{task['task_id']}.md"))
