"""A lobwife of a test's own: state directory, database, ports, real processes."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from core.postgres.base import WRITER_LOCK
from tests.support import commands
from tests.support.postgres import drop_database_of_run, make_database_of_run, shell, url_of_run

ROOT = pathlib.Path(__file__).resolve().parents[2]
_TEMPLATE = "migrated"  # in the cluster of a run
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Each process of a run has its own: nobody has a port between its choice and the start of what listens on it.
_PORTS = range(10_000 + _WORKER, 32_000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
_given: set[int] = set()


def wait_for(condition: Callable[[], Any], seconds: float = 15, what: str = "") -> Any:
    """The condition's first true value; fails after the deadline.

    What takes long is looked at less often: whoever starts would be kept from it by the looking.
    """
    deadline = time.monotonic() + seconds
    pause = 0.01
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {seconds} s: {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.15)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has, below those of which the kernel gives one to whoever names none."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            each = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                port = secrets.choice(_PORTS)
                each.bind(("127.0.0.1", port))
                if port not in _given:
                    _given.add(port)
                    ports.append(port)
        return ports


@dataclass
class Answer:
    """What came back over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def read_from(cls, connection: http.client.HTTPConnection) -> Answer:
        response = connection.getresponse()
        return cls(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Installation:
    """Everything a running lobwife has, in one folder; started and stopped by the test.

    `template` is the folder of the migrated state directory that the test processes of a session share; there is none
    outside of tests. Where the run is `on_postgres`, each has a database in the run's cluster until nobody has the
    object any more, and `template` is a database there as well.
    """

    template: pathlib.Path | None = None
    on_postgres = False

    def __init__(self, folder: pathlib.Path, **environment: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.vault = folder / "vault"
        self.home = folder / "home"
        self.scripts = folder / "scripts"
        for each in (self.state, self.home, self.scripts):
            each.mkdir(parents=True, exist_ok=True)
        self.web_port, self.api_port = free_ports(2)
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        self.environment = {
            **inherited,
            "HOME": str(self.home),
            "LOBWIFE_STATE_DIR": str(self.state),
            "VAULT_PATH": str(self.vault),
            "LOBWIFE_WEB_PORT": str(self.web_port),
            "LOBWIFE_API_PORT": str(self.api_port),
            "LOBWIFE_SCRIPTS_DIR": str(self.scripts),
            "LOBWIFE_WORKERS": "1",  # few tests are about several
            "LOBWIFE_STATIC_ROOT": str(ROOT / "var" / "static"),
            "LOBWIFE_SECRET_KEY": "a-key-for-tests-that-is-long-enough-for-django-and-has-some-variety-12345",
            **environment,
        }
        self._database = ""  # in the run's cluster
        if self.on_postgres and "LOBWIFE_DATABASE_URL" not in environment:
            self._database = f"installation_{secrets.token_hex(6)}"
            self.environment["LOBWIFE_DATABASE_URL"] = url_of_run(self._database)
        self._has_database = not self._database
        self.processes: list[commands.Process] = []

    # --- processes
    def migrate(self) -> None:
        """Give an empty state directory what `manage.py migrate` leaves in it; tests of that command call the command.

        The first caller of a session migrates for all: a copy takes milliseconds, the command over a second.
        """
        by_command = any(self.state.iterdir()) or "LOBWIFE_SECRET_KEY" not in self.environment
        if self.template is None or by_command or (self.on_postgres and self._has_database):
            self.manage("migrate", "-v0")
            return
        with self.template.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.template.exists():
                unfinished = Installation(self.template.with_suffix(".unfinished"))
                unfinished.manage("migrate", "-v0")
                with unfinished.database() as database:  # only jobs of the test's own fire while it runs
                    times = [moment(), moment(days=7)]
                    database.execute("UPDATE jobs_job SET settled_through = ?, next_firing = ?", times)
                if self.on_postgres:
                    make_database_of_run(_TEMPLATE, f'TEMPLATE "{unfinished._database}"')
                unfinished.state.rename(self.template)
        for file in self.template.iterdir():
            shutil.copy2(file, self.state)
        self._make_database(f'TEMPLATE "{_TEMPLATE}"')

    def copy_database(self, other: Installation) -> None:
        """Take another's rows, while nobody is connected; files of SQLite are copied with the rest of its folder."""
        self._make_database(f'TEMPLATE "{other._database}"')

    def _make_database(self, options: str = "") -> None:
        """Make the one of this installation, unless it is there; an empty one by default."""
        if not self._has_database:
            make_database_of_run(self._database, options)
            self._has_database = True
            weakref.finalize(self, drop_database_of_run, self._database)

    def manage(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return self.run(str(ROOT / "manage.py"), *arguments, check=check, timeout=timeout)

    def run(self, *arguments: str, check: bool = False, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run Python in this installation's environment to its end."""
        self._make_database()
        environment = {"DJANGO_SETTINGS_MODULE": "lobwife.settings", **self.environment}
        run = commands.fork if self.template else commands.start  # a fork server would import the script of bench
        done = run(*arguments, environment=environment, folder=ROOT, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        self._make_database()
        log = (self.folder / "processes.log").open("ab")
        process = subprocess.Popen(
            command, env=self.environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        log.close()
        self.processes.append(process)
        return process

    def fork(self, *arguments: str) -> commands.Process:
        """Start Python, as `run()` does, with a process that goes on."""
        if self.template is None or not commands.can_fork(self.environment, *arguments):
            return self.start(sys.executable, *arguments)
        self._make_database()
        log = self.folder / "processes.log"
        environment = {"DJANGO_SETTINGS_MODULE": "lobwife.settings", **self.environment}
        process = commands.Forked(*arguments, environment=environment, folder=ROOT, log=log)
        self.processes.append(process)
        return process

    def start_web(self) -> commands.Process:
        process = self.fork("-m", "gunicorn", "-c", str(ROOT / "lobwife" / "web" / "gunicorn_conf.py"))
        wait_for(lambda: self._answers() or process.poll() is not None, 30, "web answers")
        assert process.poll() is None, self.log()
        return process

    def start_daemon(self) -> commands.Process:
        process = self.fork(str(ROOT / "manage.py"), "daemon")
        wait_for(lambda: self.heartbeat_of(process) or process.poll() is not None, 30, "the daemon beats")
        assert process.poll() is None, self.log()
        return process

    def heartbeat_of(self, process: commands.Process) -> bool:
        with contextlib.suppress(sqlite3.Error, psycopg.Error), self.database() as database:
            rows = database.execute("SELECT pid FROM jobs_daemon WHERE beat_at IS NOT NULL").fetchall()
            return any(row[0] == process.pid for row in rows)
        return False

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                # Web waits for its clients at a SIGTERM, for over a second where there are none.
                process.send_signal(signal.SIGQUIT if "gunicorn" in process.args else signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(15)
        self.processes.clear()

    def log(self) -> str:
        path = self.folder / "processes.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # --- HTTP
    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        port: int | None = None,
        timeout: float = 20,
    ) -> Answer:
        """One call; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.api_port, timeout=timeout)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            return Answer.read_from(connection)
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return self.request("POST", path, body, **options)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/health", timeout=2).status > 0
        return False

    # --- database, files
    @contextlib.contextmanager
    def database(self) -> Iterator[Any]:
        """The database as an operator's shell sees it, in one transaction: marks are `?` on PostgreSQL too."""
        url = self.environment.get("LOBWIFE_DATABASE_URL")
        if url:
            with shell(url) as opened:
                yield opened
            return
        connection = sqlite3.connect(self.state / "lobmob.db", timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def script(self, name: str, text: str) -> pathlib.Path:
        path = self.scripts / name
        path.write_text(text)
        path.chmod(0o755)
        return path


def moment(**ahead: float) -> str:
    """A time from now, as both databases take it and the older service wrote it."""
    return f"{datetime.now(UTC) + timedelta(**ahead):%Y-%m-%d %H:%M:%S}"


@contextlib.contextmanager
def write_locked(server: Installation) -> Iterator[Any]:
    """The database as an operator's forgotten transaction leaves it, until they commit it."""
    with server.database() as outsider:
        if "LOBWIFE_DATABASE_URL" in server.environment:
            outsider.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
        else:
            outsider.execute("BEGIN IMMEDIATE")
        yield outsider


def waits_to_write(server: Installation) -> bool:
    """Whether a process of ours waits for the one who holds `write_locked`, or is about to."""
    if "LOBWIFE_DATABASE_URL" in server.environment:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with server.database() as database:
            return bool(database.execute(waiting).fetchall())
    with (server.state / "lobmob.db.gate").open("rb") as gate:
        try:
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
