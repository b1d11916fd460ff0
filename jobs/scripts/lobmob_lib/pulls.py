"""The work of tasks: open pull requests and branches."""

from __future__ import annotations

from . import github
from .fleet_tasks import Task
from .github import Pull
from .report import Report
from .tools import Missing, ToolError


class Unknown(Exception):
    """It can't be known now, which was said. It is not taken for a no."""


class Pulls:
    """Asks for each list once a run, also when the answer was none."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.vault_repo = github.vault_repo()
        self._open: dict[str, dict[int, Pull] | None] = {}
        self._branches: dict[int, list[str]] | None = None
        self._branches_asked = False

    def of(self, task: Task) -> Pull | None:
        """The task's open pull request, in the vault or in its own repositories; raises Unknown."""
        unknown = False
        for repo in self._repos(task):
            pulls = self._listed(repo)
            if pulls is None:
                unknown = True
            elif task["id"] in pulls:
                return pulls[task["id"]]
        if unknown:
            raise Unknown
        return None

    def may_have_one(self, task: Task) -> bool:
        """True also when that can't be known."""
        try:
            return self.of(task) is not None
        except Unknown:
            return True

    def branches_of(self, task: Task) -> list[str]:
        """The task's branches in the vault's repository; raises Unknown."""
        if not self._branches_asked:
            self._branches_asked = True
            try:
                self._branches = github.branches(self.vault_repo)
            except ToolError as error:
                self._tell(error)
        if self._branches is None:
            raise Unknown
        return self._branches.get(task["id"], [])

    def _repos(self, task: Task) -> list[str]:
        own = task.get("repos") if isinstance(task.get("repos"), list) else []
        named = [self.vault_repo, *(str(repo) for repo in own or [])]
        return list(dict.fromkeys(repo for repo in named if github.is_repo(repo)))

    def _listed(self, repo: str) -> dict[int, Pull] | None:
        if repo not in self._open:
            try:
                self._open[repo] = github.open_pulls(repo)
            except ToolError as error:
                self._open[repo] = None
                self._tell(error)
        return self._open[repo]

    def _tell(self, error: ToolError) -> None:
        tell = self._report.note if isinstance(error, Missing) else self._report.fail
        tell(f"tasks whose work can't be looked for are left alone: {error}")
