"""`manage.py`: what operators use comes first in its help."""

from __future__ import annotations

import gc

from django.core.management import BaseCommand, ManagementUtility, get_commands, load_command_class

from lobwife.management.destructive import Destructive

_SECTIONS = {
    "Start": ("serve", "web", "daemon", "migrate", "demo"),
    "Is everything well?": ("doctor", "check", "backup", "restore", "move-database"),
    "Jobs": ("jobs", "runs", "logs", "trigger", "abort", "enable", "disable", "pause", "resume"),
    "Tasks": ("tasks", "leases"),
    "Vault and tokens": ("sync", "vault", "broker"),
    "People and keys": ("createsuperuser", "changepassword", "apikey", "axes_reset"),
}


class CommandLine(ManagementUtility):
    """Django's, whose help has lobwife's commands with a sentence each, and the names of all others after them."""

    def fetch_command(self, subcommand: str) -> BaseCommand:
        """Load a command; from then on the garbage collector looks at what is made, not at what was imported."""
        command = super().fetch_command(subcommand)
        gc.freeze()
        gc.enable()
        return command

    def main_help_text(self, commands_only: bool = False) -> str:
        if commands_only:
            return super().main_help_text(commands_only=True)
        apps = get_commands()
        listed = [name for names in _SECTIONS.values() for name in names]
        ours = [name for name in apps if name not in listed and _is_ours(name)]
        others = sorted({*apps} - {*listed, *ours})
        lines = [f"{self.prog_name} COMMAND [--help]"]
        for title, names in {**_SECTIONS, "Others of lobwife": ours}.items():
            present = [name for name in names if name in apps]
            lines += ["", title, *(f"  {name:<16}{_sentence(name)}" for name in present)] if present else []
        return "\n".join([*lines, "", f"Of Django and its libraries: {', '.join(others)}."])


def _is_ours(command: str) -> bool:
    loaded = load_command_class(get_commands()[command], command)
    app = type(loaded).__module__.partition(".")[0]
    return app in {"broker", "jobs", "lobwife", "tasks", "vaultsync", "webhooks"} and not isinstance(
        loaded, Destructive
    )


def _sentence(command: str) -> str:
    """Return the first sentence of a command's help."""
    text = " ".join(load_command_class(get_commands()[command], command).help.split())
    return f"{text.partition('. ')[0].rstrip('.')}."
