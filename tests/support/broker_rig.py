"""What broker tests share: a lobwife with a GitHub of its own, and short words for its calls."""

from __future__ import annotations

import pathlib
from typing import Any

from tests.support.github import GitHub
from tests.support.installation import ROOT, Answer, Installation


class Rig(Installation):
    """A lobwife whose broker asks `self.github`."""

    def __init__(self, folder: pathlib.Path, **environment: str) -> None:
        self.github = GitHub()
        super().__init__(folder, **{**self.github.environment, **environment})
        self.migrate()

    def stop(self) -> None:
        super().stop()
        self.github.stop()

    def tick(self) -> None:
        """The daemon's broker work until there is no more, in a process of its own."""
        code = (
            "import django; django.setup()\n"
            "from broker.follower import Follower\n"
            "follower = Follower()\n"
            "for _ in range(100):\n"
            "    if not follower.tick(): break\n"
        )
        self.python(code)

    def python(self, code: str) -> str:
        done = self.run("-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def task(self, *registered: str, **fields: Any) -> int:
        """A task, registered when repositories are given."""
        made = self.post("/api/v1/tasks", {"name": "A task", **fields})
        assert made.status == 201, made.body
        number: int = made.json["id"]
        if registered:
            answer = self.register(number, *registered)
            assert answer.status == 200, answer.body
        return number

    def register(self, number: int, *repos: str, **fields: Any) -> Answer:
        return self.post(f"/api/v1/tasks/{number}/register", {"repos": list(repos), **fields})

    def token(self, task_id: str, **fields: Any) -> Answer:
        return self.post("/api/token", {"task_id": task_id, **fields})

    def audit(self, query: str = "") -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.get(f"/api/v1/audit{query}").json["entries"]
        return entries


WRAPPERS = ROOT / "deploy" / "bin"
