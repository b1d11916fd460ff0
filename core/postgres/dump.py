"""Copies by pg_dump, where that is installed: https://www.postgresql.org/docs/current/app-pgdump.html"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from typing import Any

from core.errors import Conflict, Unavailable

SUFFIX = ".dump"


def dump(connection: Any, target: pathlib.Path) -> None:
    """Write a copy in pg_dump's own format, whole or not at all; raises Unavailable, Conflict where a file is.

    The password goes by the environment, as Django's `dbshell` hands it on.
    """
    if target.exists():
        raise Conflict(f"{target} is there already: name another file, or remove it")
    arguments, environment = connection.client.settings_to_cmd_args_env(connection.settings_dict, [])
    unfinished = target.with_name(f"{target.name}.new")
    program = shutil.which("pg_dump")
    if program is None:
        raise Unavailable(
            "pg_dump is not installed here: install Debian's postgresql-client, or use the database's own tools"
            " (docs/postgres.md)"
        )
    try:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        done = subprocess.run(
            [program, "--format=custom", f"--file={unfinished}", "--no-password", *arguments[1:]],
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise Unavailable(f"pg_dump made no copy: {reason}")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)
    except OSError as error:
        raise Unavailable(f"{target} can't be written: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def newest(folder: pathlib.Path) -> pathlib.Path | None:
    """Return the newest copy of a folder."""
    return max(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime, default=None)
