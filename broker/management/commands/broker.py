"""`manage.py broker`: show the broker's state, explain a refusal, issue a token, revoke one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from broker import diagnosis, queries, registrations, services
from broker.github import app
from broker.models import GitHubState, IssuedToken
from broker.tokens import issue, revoke
from core.callers import Caller, Role
from core.console import OperatorCommand

OPERATOR = Caller("command line", Role.OPERATOR)


class Command(OperatorCommand):
    help = "The token broker: its state, why a task gets no token, a token for a task, the end of its tokens."
    requires_system_checks = "__all__"

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser("status", help="is there an App, whose, and how is GitHub")
        status.set_defaults(run=lambda task: self._status())
        runs: tuple[tuple[str, Callable[[str], None], str], ...] = (
            ("check", self._check, "explain step by step why a task gets a token or none; asks GitHub nothing"),
            ("token", self._token, "print a token for a task, as an agent would get it"),
            ("revoke", self._revoke, "end a task's registration and its tokens, now"),
        )
        for name, run, text in runs:
            action = actions.add_parser(name, help=text)
            action.add_argument("task", help="T42, a slug, a name, an assignee, a legacy id")
            action.set_defaults(run=run)

    def act(self, **options: Any) -> None:
        task = options.get("task") or ""
        if _printable(task) != task:
            raise CommandError(f"{_printable(task)} names no task: it is not printable text")
        options["run"](task)

    def _status(self) -> None:
        summary, state = queries.summary(), GitHubState.load()
        live = IssuedToken.objects.filter(state=IssuedToken.State.LIVE).count()
        ended = IssuedToken.objects.filter(state=IssuedToken.State.ENDED).count()
        last_error = f"{state.last_error} ({_utc(state.last_error_at)})" if state.last_error_at else "none"
        lines = {
            "App": app.problem() or f"{summary['app_id']}, installation {settings.GH_APP_INSTALL_ID}",
            "Owner": GitHubState.known_owner() or "not known yet",
            "Registrations": f"{summary['active_tasks']} active",
            "Tokens": f"{live} live, {ended} to be revoked, {summary['total_tokens_issued']} handed out in all",
            "Last token": _utc(state.last_mint_at) if state.last_mint_at else "none",
            "Rate limit": "unknown" if state.rate_left is None else f"{state.rate_left} calls left",
            "Last error": last_error,
            "Audit": f"{summary['audit_entries']} entries",
        }
        for name, value in lines.items():
            self.stdout.write(f"{name:14} {_printable(value)}")

    def _check(self, task: str) -> None:
        for sentence in diagnosis.judged_by():
            self.stdout.write(_printable(sentence))
        failed = False
        for step in diagnosis.steps(task):
            failed = failed or not step.passed
            mark = self.style.SUCCESS("yes") if step.passed else self.style.ERROR("no ")
            self.stdout.write(f"{mark} {_printable(step.sentence)}")
        for line in diagnosis.recent(task):
            self.stdout.write(f"    {_printable(line)}")
        if failed:
            raise CommandError(f"{task} gets no token")
        self.stdout.write(f"{task} gets a token")

    def _token(self, task: str) -> None:
        self.stdout.write(issue.issue_token(task_id=task, caller=OPERATOR).token)

    def _revoke(self, task: str) -> None:
        registration = registrations.find(task)
        if registration is None:
            raise CommandError(f"there is no registration under {task}")
        services.end_registration(key=registration.key, reason="ended by an operator", caller=OPERATOR)
        ended = IssuedToken.objects.filter(key=registration.key, state=IssuedToken.State.ENDED)
        results = [revoke.revoke(row) for row in ended]
        self.stdout.write(f"{task}: registration ended, {results.count(True)} tokens revoked")
        if False in results:
            raise CommandError(f"{results.count(False)} tokens were not revoked at GitHub; the daemon goes on trying")


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _printable(text: str) -> str:
    """Return what callers and GitHub wrote without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "�" for character in text)
