"""What lobmob-task-manager.py looks after: a fleet over a lobwife without tasks."""

from __future__ import annotations

import datetime
import pathlib
from typing import Any

from tests.support.fleet import Fleet
from tests.support.installation import Installation, moment

SCRIPT = "lobmob-task-manager.py"
ACTOR = "lobmob-task-manager"


class World(Fleet):
    """A fleet over a lobwife without tasks."""

    def __init__(self, folder: pathlib.Path, server: Installation) -> None:
        super().__init__(folder, server)
        self.server = server
        with server.database() as database:
            database.execute("DELETE FROM task_events")
            database.execute("DELETE FROM tasks")

    def task(self, minutes: float | None = None, **fields: Any) -> int:
        """A task; active and assigned so many minutes ago, when minutes are given."""
        number: int = self.server.post("/api/v1/tasks", {"name": "Fix it", **fields}).json["id"]
        if minutes is not None:
            self.assign(number, minutes, **fields)
        return number

    def assign(self, number: int, minutes: float, **fields: Any) -> None:
        at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=minutes)
        body = {"status": "active", "assigned_to": f"lobster-swe-t{number}", "assigned_at": at.isoformat(), **fields}
        assert self.server.request("PATCH", f"/api/v1/tasks/{number}", body).status == 200

    def aged(self, number: int, minutes: float) -> None:
        """As if it had been made so long ago."""
        with self.server.database() as database:
            database.execute("UPDATE tasks SET created_at = ? WHERE id = ?", (moment(minutes=-minutes), number))

    def get(self, number: int) -> dict[str, Any]:
        return self.server.get(f"/api/v1/tasks/{number}").json

    def events(self, number: int) -> list[str]:
        """What the script said of a task, oldest first."""
        history = self.server.get(f"/api/v1/tasks/{number}/events").json
        return [each["event_type"] for each in reversed(history) if each["actor"] == ACTOR]

    def manage(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run the script; its output."""
        done = self.run(SCRIPT, *arguments, **environment)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def twice(self, **environment: str) -> str:
        """Run it two times; what the second run said."""
        self.manage(**environment)
        return self.manage(**environment)

    def working(self, *numbers: int) -> None:
        """Kubernetes has jobs for these tasks."""
        self.jobs(*(f"lobster-swe-t{number}" for number in numbers))

    def branch(self, name: str, ahead: int = 1, repo: str = "org/vault") -> None:
        self.gh["repos"].setdefault(repo, {}).setdefault("branches", {})[name] = ahead
        self.save()

    def pull(self, branch: str, repo: str = "org/vault") -> None:
        pulls = self.gh["repos"].setdefault(repo, {}).setdefault("pulls", [])
        pulls.append({"number": 7, "headRefName": branch, "url": f"https://github.com/{repo}/pull/7"})
        self.save()

    def investigations(self) -> list[dict[str, Any]]:
        return self.server.get("/api/v1/tasks?type=system").json
