"""The path of a job's script, and the command and environment that start it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from datetime import UTC, datetime

from django.conf import settings

from core.errors import Invalid, NotFound
from jobs.secrets import ON_REQUEST

_WITHHELD_PREFIXES = (
    "GH_APP_PEM",
    "LOBWIFE_SECRET_KEY",
    "LOBWIFE_DATABASE_URL",
    "DJANGO_SUPERUSER_",
    "LOBWIFE_ALERT_URLS",
)
_POST_TO_DISCORD = ("lobmob-status-reporter.py", "lobmob-task-manager.py")  # of the fleet's own
_CLIENT = settings.BASE_DIR / "clients" / "python"  # scripts import lobwife_client
_MOST_LISTED = 200
_INTERPRETERS = {".py": (sys.executable,), ".sh": ("bash",)}


def check_name(script: str) -> None:
    """Check a name; raises Invalid for one that could leave the scripts' folders, or of a kind that can't be run."""
    if not script or script != os.path.basename(script) or "\0" in script or script.startswith("."):
        raise Invalid("a script is named by its file name alone, without a folder")
    if pathlib.Path(script).suffix not in _INTERPRETERS:
        raise Invalid("a script's name ends in .py or .sh")


def find_script(script: str) -> pathlib.Path:
    """Return the path in the first folder that has the script; raises Invalid, or NotFound with the folders."""
    check_name(script)
    for folder in settings.JOB_SCRIPT_DIRS:
        path = pathlib.Path(folder) / script
        try:
            if path.is_file():
                if not os.access(path, os.R_OK):
                    raise Invalid(f"the script {script} in {folder} can't be read by this service: check its mode")
                return path
            if path.is_dir():
                raise Invalid(f"{script} in {folder} is a folder, not a script")
        except OSError as error:
            raise Invalid(f"the script {script} in {folder} can't be looked at: {error.strerror}") from None
    folders = ", ".join(str(folder) for folder in settings.JOB_SCRIPT_DIRS)
    raise NotFound(f"script {script} not found: put it in one of {folders}, or set LOBWIFE_SCRIPTS_DIR")


def list_scripts() -> list[tuple[pathlib.Path, datetime]]:
    """Return the first scripts that can be named, with when they were changed; of equal names the one that runs."""
    scripts: dict[str, tuple[pathlib.Path, datetime]] = {}
    for folder in settings.JOB_SCRIPT_DIRS:
        with contextlib.suppress(OSError):
            for path in sorted(pathlib.Path(folder).iterdir())[:_MOST_LISTED]:
                is_one = path.suffix in _INTERPRETERS and not path.name.startswith(".") and path.is_file()
                if is_one and path.name not in scripts:
                    scripts[path.name] = path, datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return sorted(scripts.values(), key=lambda pair: pair[0].name)[:_MOST_LISTED]


def command(path: pathlib.Path) -> list[str]:
    """Return the interpreter and the script."""
    return [*_INTERPRETERS[path.suffix], str(path)]


def script_environment(path: pathlib.Path) -> dict[str, str]:
    """Return a script's environment: the daemon's own, without what scripts don't need, and the contract's variables.

    Whoever has the App's key, the secret key or the database's password needs no script to reach everything; tokens
    come from the broker.
    """
    withheld = () if path.name in _POST_TO_DISCORD else ON_REQUEST
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_WITHHELD_PREFIXES) and name not in withheld
    }
    folders = [str(folder) for folder in settings.JOB_SCRIPT_DIRS if os.path.isdir(folder)]
    folders += [folder for folder in ("/opt/lobmob/scripts",) if os.path.isdir(folder)]
    environment = {
        "PYTHONUNBUFFERED": "1",  # output can be followed while the script runs
        "LOBWIFE_PYTHON": sys.executable,  # for shell scripts that are a thin layer over Python
        **inherited,
        "VAULT_PATH": str(settings.VAULT_PATH),
        "LOBWIFE_URL": settings.LOBWIFE_URL,
        "LOG_DIR": "/tmp",  # noqa: S108 the contract's value
        "TASK_STATE_DIR": "/tmp/lobmob-task-state",  # noqa: S108
        "LOBMOB_RUNTIME": "k8s",
        "PATH": os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, (inherited.get("PYTHONPATH"), str(_CLIENT)))),
        "TZ": settings.SCRIPTS_TZ,
    }
    return {name: value for name, value in environment.items() if value or name != "TZ"}
