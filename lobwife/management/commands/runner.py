"""`manage.py runner --labels gpu,build [--parallel N]`: execute runs of jobs that name one of these labels."""

from __future__ import annotations

import argparse
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from core.database.backend import is_postgres
from jobs.models import DEFAULT_LABEL, NodeKind, is_a_label
from lobwife.daemon.process import Daemon
from lobwife.management.commands import daemon


class Command(daemon.Command):
    help = (
        "Execute runs of the jobs whose `runs_on` is one of these labels, in the foreground. There may be any number of"
        " runners, on all machines that reach the database and have the scripts. Needs PostgreSQL: on SQLite the daemon"
        " executes all runs."
    )
    title = "lobwife-runner"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--labels",
            type=_labels,
            default=[DEFAULT_LABEL],
            help=f"separated by commas ({DEFAULT_LABEL}: of jobs that name none)",
        )
        parser.add_argument(
            "--parallel", type=_count, default=settings.JOB_MAX_PARALLEL, help="runs at a time (%(default)s)"
        )

    def process(self, **options: Any) -> Daemon:
        if not is_postgres():
            raise CommandError(
                "Runners need PostgreSQL: set LOBWIFE_DATABASE_URL. On SQLite the daemon executes all runs."
            )
        return Daemon(NodeKind.RUNNER, options["labels"], options["parallel"])


def _labels(text: str) -> list[str]:
    labels = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    try:
        for label in labels or [""]:
            is_a_label(label)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(error.messages[0]) from None
    return labels


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError("Use a number from 1 to 1000.")
    return int(text)
