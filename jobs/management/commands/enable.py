"""`manage.py enable NAME`: let a job's schedule run it."""

from jobs.console import SwitchCommand


class Command(SwitchCommand):
    help = "Let a job's schedule run it again; what it missed meanwhile does not run."
    enabled = True
