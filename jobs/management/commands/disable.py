"""`manage.py disable NAME`: keep a job's schedule from running it."""

from jobs.console import SwitchCommand


class Command(SwitchCommand):
    help = "Keep a job's schedule from running it; it can still be triggered."
    enabled = False
