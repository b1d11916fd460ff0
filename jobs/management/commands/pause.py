"""`manage.py pause`: start nothing until resumed."""

from jobs.console import PauseCommand


class Command(PauseCommand):
    help = "Start no more runs until resumed. Running jobs will finish."
    paused = True
    message = "Paused. Running jobs will finish; `manage.py resume` starts others again."
