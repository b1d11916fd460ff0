"""`manage.py resume`: start runs again."""

from jobs.console import PauseCommand


class Command(PauseCommand):
    help = "Start runs again; firings missed while paused follow each job's policy."
    paused = False
    message = "Resumed. Jobs start as scheduled."
