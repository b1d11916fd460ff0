"""The work of tasks on GitHub, by gh: open pull requests and branches."""

from __future__ import annotations

import json
import os
import pathlib
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .script import Failed, Report, ToolError, run, run_json
from .tasks import Task

MAIN = "main"
_MOST_PULLS = 1000
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+")
_REMOTE = re.compile(r"github\.com[:/](?P<repo>[^/\s]+/[^/\s]+?)(?:\.git)?/?$")
_TASK_WORD = re.compile(r"(?<![a-z0-9])t(\d{1,18})(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Pull:
    number: int
    branch: str
    url: str


class Unknown(Exception):
    """It can't be known now, which was reported. It is not taken for a no."""


class Pulls:
    """Asks for each list once a run, also when the answer was none."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.vault_repo = vault_repo()
        self._open: dict[str, dict[int, Pull] | None] = {}
        self._branches: dict[int, list[str]] | None = None
        self._branches_asked = False

    def of(self, task: Task) -> Pull | None:
        """Return the task's open pull request, in the vault or in its own repositories; raises Unknown."""
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
        """Return whether it has one, or that can't be known."""
        try:
            return self.of(task) is not None
        except Unknown:
            return True

    def branches_of(self, task: Task) -> list[str]:
        """Return the task's branches in the vault's repository; raises Unknown."""
        if not self._branches_asked:
            self._branches_asked = True
            try:
                self._branches = branches(self.vault_repo)
            except ToolError as error:
                self._report.skip(error, "tasks whose work can't be looked for are left alone")
        if self._branches is None:
            raise Unknown
        return self._branches.get(task["id"], [])

    def _repos(self, task: Task) -> list[str]:
        own = task.get("repos") if isinstance(task.get("repos"), list) else []
        named = [self.vault_repo, *(str(repo) for repo in own or [])]
        return list(dict.fromkeys(repo for repo in named if is_repo(repo)))

    def _listed(self, repo: str) -> dict[int, Pull] | None:
        if repo not in self._open:
            try:
                self._open[repo] = open_pulls(repo)
            except ToolError as error:
                self._open[repo] = None
                self._report.skip(error, "tasks whose work can't be looked for are left alone")
        return self._open[repo]


def vault_repo() -> str:
    """Return `org/repo` of the vault, by VAULT_REPO or its address, else by its copy's remote; empty without either."""
    named = os.environ.get("VAULT_REPO", "").strip()
    if named:
        return named if is_repo(named) else _repo_of(named)
    path = pathlib.Path(os.environ.get("VAULT_PATH") or pathlib.Path.home() / "vault")
    if not (path / ".git").exists():
        return ""
    try:
        url = run("git", "-C", str(path), "config", "--local", "--get", "remote.origin.url").strip()
    except ToolError:
        return ""
    return _repo_of(url)


def _repo_of(url: str) -> str:
    remote = _REMOTE.search(url)
    return remote["repo"] if remote and is_repo(remote["repo"]) else ""


def is_repo(name: str) -> bool:
    return bool(_REPO.fullmatch(name))


def tasks_in(branch: str) -> set[int]:
    """Return the tasks whose ids are whole words of a branch's name."""
    return {int(number) for number in _TASK_WORD.findall(branch)}


def open_pulls(repo: str) -> dict[int, Pull]:
    """Return the open pull requests of a repository, by task; raises Missing or Failed."""
    fields = "number,headRefName,url"
    answer = run_json(
        *("gh", "pr", "list", "--repo", repo, "--state", "open", "--limit", str(_MOST_PULLS), "--json", fields),
        kind=list,
    )
    if len(answer) >= _MOST_PULLS:
        raise Failed(f"{repo} has more open pull requests than can be looked at")
    pulls: dict[int, Pull] = {}
    for item in answer:
        pull = _pull(item)
        for task in tasks_in(pull.branch):
            pulls.setdefault(task, pull)
    return pulls


def branches(repo: str) -> dict[int, list[str]]:
    """Return the branches of a repository, by task; raises Missing or Failed."""
    by_task: dict[int, list[str]] = {}
    for page in pages(run("gh", "api", "--paginate", f"repos/{repo}/branches?per_page=100")):
        for item in page:
            if not isinstance(item, dict) or not isinstance(item.get("name"), str):
                raise Failed("gh api answered something that is not a list of branches")
            for task in tasks_in(item["name"]):
                by_task.setdefault(task, []).append(item["name"])
    return by_task


def is_ahead(repo: str, branch: str) -> bool:
    """Return True when a branch has commits that main lacks; raises Missing or Failed."""
    answer = run_json("gh", "api", f"repos/{repo}/compare/{MAIN}...{quote(branch, safe='/')}", kind=dict)
    if not isinstance(answer.get("ahead_by"), int):
        raise Failed("gh api answered something that is not a comparison")
    return bool(answer["ahead_by"] > 0)


def open_pull(repo: str, branch: str, *, title: str, body: str) -> str:
    """Open a pull request from a branch onto main; returns its URL. Raises Missing or Failed."""
    arguments = ("--repo", repo, "--head", branch, "--base", MAIN, "--title", title, "--body-file", "-")
    printed = run("gh", "pr", "create", *arguments, stdin=body).split()
    return printed[-1] if printed else ""


def count_open_pulls(repo: str) -> int:
    """Count the open pull requests; raises Missing or Failed."""
    arguments = ("--repo", repo, "--state", "open", "--limit", str(_MOST_PULLS), "--json", "number")
    return len(run_json("gh", "pr", "list", *arguments, kind=list))


def _pull(item: Any) -> Pull:
    try:
        return Pull(int(item["number"]), str(item["headRefName"]), str(item.get("url", "")))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Failed("gh pr list answered something that is not a list of pull requests") from None


def pages(text: str) -> list[list[Any]]:
    """Return the arrays that `gh api --paginate` prints one after the other; raises Failed."""
    pages: list[list[Any]] = []
    rest, decoder = text.strip(), json.JSONDecoder()
    while rest or not pages:
        try:
            page, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            raise Failed("gh api answered something that is not JSON") from None
        if not isinstance(page, list):
            raise Failed("gh api answered something that is not a list")
        pages.append(page)
        rest = rest[end:].lstrip()
    return pages
