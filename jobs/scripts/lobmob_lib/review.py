"""Review the vault's open pull requests by rules, and merge what is housekeeping."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from . import github
from .rules import AGENTS, FileDiff, NotADiff, problems, read_diff
from .script import Failed, Report, ToolError, parser, run, run_json

NAME = "lobmob-review-prs"
MARK = "<!-- lobmob-review-prs -->"
_FIELDS = ",".join(
    ("number", "title", "author", "isDraft", "isCrossRepository", "headRefOid", "baseRefName")
    + ("statusCheckRollup", "latestReviews", "reviewDecision")
)
_MOST_PULLS = 500
_MOST_PROBLEMS = 50
_PASSED = {"SUCCESS", "NEUTRAL", "SKIPPED"}
Pull = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    report = Report(dry_run=parser(NAME, __doc__).parse_args(arguments).dry_run)
    repo = github.vault_repo()
    if not repo:
        report.note("skipped: neither VAULT_REPO nor the vault's remote names a repository")
        return report.last_line(NAME)
    try:
        listed = ("--repo", repo, "--state", "open", "--limit", str(_MOST_PULLS), "--json", _FIELDS)
        pulls = run_json("gh", "pr", "list", *listed, kind=list)
        reviewer = Reviewer(repo, report, _me() if pulls else "")
    except ToolError as error:
        report.skip(error, "skipped")
        return report.last_line(NAME)
    for pull in pulls:
        number = pull.get("number") if isinstance(pull, dict) else None
        try:
            reviewer.review(pull)
        except (ToolError, NotADiff) as error:
            report.fail(f"#{number} is left alone: {error}")
        except (KeyError, TypeError, AttributeError):
            report.fail(f"#{number} is left alone: gh answered something unexpected")
    return report.last_line(NAME)


def _me() -> str:
    """Return our login on GitHub: an app's bot, `name[bot]`, or a person. Raises Missing or Failed."""
    answer = run_json("gh", "api", "graphql", "-f", "query={viewer{login}}", kind=dict)
    try:
        return str(answer["data"]["viewer"]["login"])
    except (KeyError, TypeError):
        raise Failed("gh api graphql answered something unexpected") from None


class Reviewer:
    """Judges pull requests of one repository. A head that moves meanwhile is not merged."""

    def __init__(self, repo: str, report: Report, me: str) -> None:
        self.repo = repo
        self.report = report
        self.me = me
        named = os.environ.get("LOBMOB_REVIEW_AUTHORS", "").replace(",", " ").split()
        self.authors = {_login(name) for name in named or ([me] if me.endswith("[bot]") else [])}

    def review(self, pull: Pull) -> None:
        """Block, merge, or ask for a review; raises ToolError or NotADiff."""
        number, head = int(pull["number"]), str(pull["headRefOid"])
        files = read_diff(self._diff(str(pull["baseRefName"]), head))
        reasons = problems(files, lambda path: self._content(path, head))
        if reasons:
            lines = [f"- {reason}" for reason in reasons[:_MOST_PROBLEMS]]
            if len(reasons) > _MOST_PROBLEMS:
                lines.append(f"- and {len(reasons) - _MOST_PROBLEMS} more")
            self._comment(number, "blocked", "\n".join(["**Blocked.** This must not be merged:", "", *lines]))
            return
        why_not = self._not_housekeeping(pull, files)
        if why_not:
            self._comment(number, "awaiting a review", f"The checks passed; a review is awaited: {why_not}.")
            return
        if not self.report.dry_run:
            how = ("--repo", self.repo, "--merge", "--delete-branch", "--match-head-commit", head)
            run("gh", "pr", "merge", str(number), *how)
        self.report.did("merged", f"merge #{number}")

    def _diff(self, base: str, head: str) -> str:
        """Return the change of one commit, whatever the branch is at now."""
        accept = "Accept: application/vnd.github.diff"
        return run("gh", "api", "-H", accept, f"repos/{self.repo}/compare/{quote(base)}...{quote(head)}")

    def _content(self, path: str, head: str) -> str:
        accept = "Accept: application/vnd.github.raw+json"
        return run("gh", "api", "-H", accept, f"repos/{self.repo}/contents/{quote(path)}?ref={quote(head)}")

    def _not_housekeeping(self, pull: Pull, files: list[FileDiff]) -> str:
        """Return why a person has to look at it; empty when nobody has to."""
        author = pull["author"]
        login = _login(f"{author['login']}[bot]" if author.get("is_bot") else str(author["login"]))
        reviews = [review["state"] for review in pull["latestReviews"] or []]
        if login not in self.authors or pull["isCrossRepository"]:
            return "its author is not on the list of those whose housekeeping is merged"
        if pull["isDraft"]:
            return "it is a draft"
        if pull["baseRefName"] != github.MAIN:
            return f"it does not go to {github.MAIN}"
        if any(AGENTS in file.paths for file in files):
            return f"it touches {AGENTS}"
        if not files or any(file.binary for file in files):
            return "it has content that rules can't judge"
        if "CHANGES_REQUESTED" in [*reviews, pull["reviewDecision"]]:
            return "a review asks for changes"
        if not all(_passed(check) for check in pull["statusCheckRollup"] or []):
            return "its checks have not passed"
        return ""

    def _comment(self, number: int, what: str, text: str) -> None:
        """See that our one comment says this; it is written only when it does not."""
        body = f"{MARK}\n{text}"
        pages = github.pages(run("gh", "api", "--paginate", f"repos/{self.repo}/issues/{number}/comments?per_page=100"))
        ours = [comment for page in pages for comment in page if self._is_ours(comment)]
        if ours and ours[0]["body"].strip() == body:
            return
        if not self.report.dry_run:
            method, path = ("PATCH", f"comments/{ours[0]['id']}") if ours else ("POST", f"{number}/comments")
            arguments = ("--method", method, f"repos/{self.repo}/issues/{path}", "--input", "-")
            run("gh", "api", *arguments, stdin=json.dumps({"body": body}))
        self.report.did(what, f"comment on #{number}: {text.splitlines()[0]}")

    def _is_ours(self, comment: Any) -> bool:
        return str(comment["body"]).startswith(MARK) and _login(str(comment["user"]["login"])) == _login(self.me)


def _passed(check: dict[str, Any]) -> bool:
    return str(check.get("conclusion") or check.get("state") or "").upper() in _PASSED


def _login(name: str) -> str:
    """Return one spelling for `app/name`, `app/name[bot]` and `name[bot]`."""
    plain = name.lower()
    if plain.startswith("app/"):
        return plain.removeprefix("app/").removesuffix("[bot]") + "[bot]"
    return plain.removesuffix("[bot]") + "[bot]" if plain.endswith("[bot]") else plain


if __name__ == "__main__":
    sys.exit(main())
