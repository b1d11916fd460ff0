"""The banner of a start: where everything is, and what to do next."""

from __future__ import annotations

import pathlib
import shlex
import sys

from django.conf import settings
from django.db import connection

from core.database.backend import is_postgres
from lobwife.takeover.database import COPY_SUFFIX
from lobwife.web.prepare import NewOperator

CLOSED = (
    "to callers from elsewhere without a key: `manage.py apikey create NAME --role service` makes one,",
    "and `manage.py apikey access open` lets in everybody, as the older service did",
)


def banner(operator: NewOperator | None, *, is_open: bool) -> str:
    """Return the text for the terminal; it has the new operator's password if one was generated."""
    people, programs = settings.LOCAL_WEB_URL, settings.LOCAL_API_URL
    rows = [
        ("for people", f"{people}/"),
        *_sign_in(operator),
        ("for agents", f"{programs}/   (its calls are described at {people}/api/docs)"),
        *([] if is_open else _closed()),
        ("state", f"{settings.STATE_DIR}   ({_database_file()}log daemon.log)"),
        *_server(),
        *_taken_over(operator),
        ("vault", str(settings.VAULT_PATH)),
        ("scripts", ":".join(str(folder) for folder in settings.JOB_SCRIPT_DIRS if folder.is_dir())),
    ]
    python = _relative(pathlib.Path(sys.executable))
    lines = [
        f"lobwife {settings.VERSION} is starting.",
        "",
        *(f"  {name:<14}{value}" for name, value in rows),
        "",
        "Next, in another terminal (README.md has more):",
        f"""  curl {programs}/api/v1/tasks -d '{{"name": "My first task"}}'""",
        f"  curl {programs}/api/jobs",
        "and for the commands of this installation:",
        f"  cd {shlex.quote(str(settings.BASE_DIR))}",
        f"  export {_exports()}",
        f"  {python} manage.py help",
        "",
        "Ctrl-C stops everything. From here on, web and daemon log:",
    ]
    return "\n".join(lines)


def _database_file() -> str:
    return "" if is_postgres() else f"database {settings.DATABASE_FILE}, "


def _server() -> list[tuple[str, str]]:
    """Return a row for a database that has a server; its URL has a password, so it is typed again for commands."""
    if not is_postgres():
        return []
    where = connection.settings_dict["HOST"] or "this machine"
    return [("database", f"{settings.DATABASE_NAME} on {where}   (PostgreSQL; commands need LOBWIFE_DATABASE_URL too)")]


def _sign_in(operator: NewOperator | None) -> list[tuple[str, str]]:
    if operator is None:
        return []
    rows = [("  sign in as", operator.username)]
    if operator.password:
        rows.append(("  password", f"{operator.password}   (shown this once; `manage.py changepassword` sets another)"))
    return rows


def _taken_over(operator: NewOperator | None) -> list[tuple[str, str]]:
    """Return a row for the first start on the older service's database."""
    copy = settings.STATE_DIR / f"{settings.DATABASE_FILE}{COPY_SUFFIX}"
    if operator is None or not copy.exists():
        return []
    return [("  taken over", f"from the older service with every row; as it was, it is kept as {copy.name}")]


def _closed() -> list[tuple[str, str]]:
    """Return rows for an API that asks for credentials, which callers of the older service have not."""
    return [("  closed", CLOSED[0]), ("", CLOSED[1])]


def _exports() -> str:
    """Return the variables that name this installation to commands; ports only where they are not the defaults."""
    variables: dict[str, object] = {"LOBWIFE_STATE_DIR": settings.STATE_DIR, "VAULT_PATH": settings.VAULT_PATH}
    ports = {"LOBWIFE_WEB_PORT": (settings.WEB_PORT, 8080), "LOBWIFE_API_PORT": (settings.API_PORT, 8081)}
    variables |= {name: port for name, (port, default) in ports.items() if port != default}
    return " ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items())


def _relative(path: pathlib.Path) -> str:
    """Return the path as it is typed in the checkout."""
    inside = path.is_relative_to(settings.BASE_DIR)
    return shlex.quote(str(path.relative_to(settings.BASE_DIR) if inside else path))
