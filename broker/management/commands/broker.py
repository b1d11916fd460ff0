"""`manage.py broker`: the broker's state, why a task gets no token, a token, the end of one."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from broker import diagnosis, queries, registrations, services
from broker.audit import Caller
from broker.github import app
from broker.models import GitHubState, IssuedToken
from broker.tokens import issue, revoke
from core.errors import LobwifeError

OPERATOR = Caller("command line")


class Command(BaseCommand):
    help = "The token broker: its state, why a task gets no token, a token for a task, the end of its tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("status", help="is there an App, whose, and how is GitHub")
        for name, text in (
            ("check", "explain step by step why a task gets a token or none; asks GitHub nothing"),
            ("token", "print a token for a task, as an agent would get it"),
            ("revoke", "end a task's registration and its tokens, now"),
        ):
            actions.add_parser(name, help=text).add_argument(
                "task", help="T42, a slug, a name, an assignee, a legacy id"
            )

    def handle(self, *arguments: Any, **options: Any) -> None:
        if options.get("task") and _printable(options["task"]) != options["task"]:
            raise CommandError(f"{_printable(options['task'])} names no task: it is not printable text")
        try:
            if options["action"] == "status":
                self._status()
            else:
                getattr(self, f"_{options['action']}")(options["task"])
        except LobwifeError as error:
            raise CommandError(str(error)) from None

    def _status(self) -> None:
        summary, state = queries.summary(), GitHubState.load()
        live = IssuedToken.objects.filter(state=IssuedToken.State.LIVE).count()
        ended = IssuedToken.objects.filter(state=IssuedToken.State.ENDED).count()
        lines = {
            "App": app.trouble() or f"{summary['app_id']}, installation {settings.GH_APP_INSTALL_ID}",
            "Owner": GitHubState.known_owner() or "not known yet",
            "Registrations": f"{summary['active_tasks']} active",
            "Tokens": f"{live} live, {ended} to be revoked, {summary['total_tokens_issued']} handed out in all",
            "Last token": f"{state.last_mint_at:%Y-%m-%d %H:%M:%S} UTC" if state.last_mint_at else "none",
            "Rate limit": "unknown" if state.rate_left is None else f"{state.rate_left} calls left",
            "Last error": f"{state.last_error} ({state.last_error_at:%Y-%m-%d %H:%M:%S} UTC)"
            if state.last_error_at
            else "none",
            "Audit": f"{summary['audit_entries']} entries",
        }
        for name, found in lines.items():
            self.stdout.write(f"{name:14} {_printable(found)}")

    def _check(self, task: str) -> None:
        failed = False
        for step in diagnosis.steps(task):
            failed = failed or not step.passed
            mark = self.style.SUCCESS("yes") if step.passed else self.style.ERROR("no ")
            self.stdout.write(f"{mark} {_printable(step.found)}")
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
        services.end_registration(subject=registration.subject, reason="ended by an operator", caller=OPERATOR)
        ended = IssuedToken.objects.filter(subject=registration.subject, state=IssuedToken.State.ENDED)
        outcomes = [revoke.revoke(row) for row in ended]
        self.stdout.write(f"{task}: registration ended, {outcomes.count(True)} tokens revoked")
        if False in outcomes:
            raise CommandError(f"{outcomes.count(False)} tokens were not revoked at GitHub; the daemon goes on trying")


def _printable(text: str) -> str:
    """What callers and GitHub wrote, without what a terminal would obey."""
    return "".join(each if each.isprintable() else "�" for each in text)
