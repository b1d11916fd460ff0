"""A PostgreSQL of a test run's own: one cluster, made in a temporary folder, gone with the process that made it."""

from __future__ import annotations

import atexit
import contextlib
import glob
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.types.string import TextLoader

DATABASE = "lobwife"  # of a run: those of its processes are named after it
_SECONDS = 60.0
_NOBODY = 65534
# The cluster lasts for one run: nothing of it has to survive.
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum": "off",
}


class Cluster:
    """A running PostgreSQL that only this machine reaches, by a socket in its folder.

    With a primary it is a standby, which follows that one. `folder` is an empty one, else it makes one.
    """

    def __init__(self, *, primary: Cluster | None = None, folder: pathlib.Path | None = None, **options: str) -> None:
        self.folder = folder or pathlib.Path(tempfile.mkdtemp(prefix="lobwife-postgres-"))
        self._data = self.folder / "data"
        self._options = {**_OPTIONS, "unix_socket_directories": str(self.folder), **options}
        self._process: subprocess.Popen[bytes] | None = None
        self._account = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._account:
            os.chown(self.folder, _NOBODY, _NOBODY)
        if primary is not None:
            self._run(
                "pg_basebackup", "-d", primary.url(), "-D", str(self._data), "-R", "--checkpoint=fast", "--no-sync"
            )
        else:
            arguments = ["--auth=trust", "--username=lobwife", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
            self._run("initdb", "-D", str(self._data), "--wal-segsize=1" if folder else "--wal-segsize=16", *arguments)
        self.start()

    @property
    def pid(self) -> int:
        """The server's first process, the parent of all others; 0 while it is stopped."""
        return self._process.pid if self._process is not None else 0

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://lobwife@/{database}?host={self.folder}"

    def make_database(self, name: str, options: str = "") -> str:
        """Make a database and return its URL."""
        self.execute(f'CREATE DATABASE "{name}" {options}')
        return self.url(name)

    @property
    def socket(self) -> pathlib.Path:
        return self.folder / ".s.PGSQL.5432"

    def execute(self, sql: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql)

    def has_ended(self) -> bool:
        """Return whether it ended by itself."""
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "QUIT", str(program("postgres")), "-D", str(self._data), *options],
            stdout=log,
            stderr=log,
            cwd=self.folder,
            **self._account,
        )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text(errors="replace")) from None
                time.sleep(0.05)

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop it, at once by default; SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_SECONDS)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(program(name)), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, timeout=_SECONDS, **self._account
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr}")


def url_of_run(database: str = DATABASE) -> str:
    """Return a URL in this run's cluster; the first process makes it, and its children find it in the environment."""
    variable = "LOBWIFE_TEST_POSTGRES"
    if variable not in os.environ:
        cluster = Cluster()
        atexit.register(cluster.remove)
        os.environ[variable] = cluster.make_database(DATABASE)
    return os.environ[variable].replace(f"/{DATABASE}?", f"/{database}?")


def make_database_of_run(name: str, options: str = "") -> None:
    with psycopg.connect(url_of_run(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {options}')


def drop_database_of_run(name: str) -> None:
    """Drop it, whoever is connected; the cluster may be gone before."""
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url_of_run(), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


class Row(tuple[Any, ...]):
    """What sqlite3.Row is to SQLite: values by number and by name."""

    names: Sequence[str]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        return list(self.names)


def _rows(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], Row]:
    kind = type("Row", (Row,), {"names": [column.name for column in cursor.description or ()]})
    return lambda values: kind(values)


class _AsText(TextLoader):
    """Times and JSON are texts, as they are on SQLite."""

    def load(self, data: Buffer) -> Any:
        return str(super().load(data)).removesuffix("+00")


class Shell:
    """A connection that is used as one of sqlite3 is."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> psycopg.Cursor[Row]:
        return self._connection.execute(_native(sql), parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        self._connection.cursor().executemany(_native(sql), rows)

    def commit(self) -> None:
        self._connection.commit()


def _native(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


@contextlib.contextmanager
def shell(url: str) -> Iterator[Shell]:
    """Open a database for a test to look into and change, past lobwife, in one transaction."""
    with psycopg.connect(url, options="-c timezone=UTC", row_factory=_rows) as connection:
        for name in ("timestamptz", "date", "json", "jsonb"):
            connection.adapters.register_loader(name, _AsText)
        yield Shell(connection)


def program(name: str) -> pathlib.Path:
    """Return the newest of Debian's, or what the package pgserver brings, or what is in PATH; there has to be one."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: -float(path.split("/")[4]))
    package = importlib.util.find_spec("pgserver")  # not imported: it would prepare a server of its own
    if package is not None and package.origin is not None:
        folders.append(f"{pathlib.Path(package.origin).parent}/pginstall/bin")
    folders += os.environ.get("PATH", "").split(os.pathsep)
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
    return pathlib.Path(path)
