"""Three webs, two daemons and four runners, each behind a proxy to the database, and one proxy before the webs."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.support import commands
from tests.support.installation import ROOT, Installation, wait_for
from tests.support.postgres import Cluster
from tests.support.proxy import Proxy

DATABASE = "kills"
START_SECONDS = 240
GUNICORN = ("-m", "gunicorn", "-c", str(ROOT / "lobwife" / "web" / "gunicorn_conf.py"))
MANAGE = str(ROOT / "manage.py")
# As it is where nothing may be lost; the machine itself stays up, so that nothing has to reach the disk.
_OPTIONS = {"max_connections": "200", "synchronous_commit": "on", "autovacuum": "on"}
_ALIVE = "SELECT name, leads FROM jobs_node WHERE beat_at > now() - interval '12 s'"


@dataclass
class Node:
    """A process of the installation, with a state directory and a proxy to the database of its own."""

    kind: str
    installation: Installation
    proxy: Proxy
    arguments: tuple[str, ...]
    process: commands.Process | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return self.installation.folder.name

    def start(self) -> None:
        self.process = self.installation.fork(*self.arguments)

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def signal(self, number: int) -> None:
        """Send it to the process, and to those of web that it started; scripts of runs have sessions of their own."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(30)
        self.installation.processes.clear()


class Fleet:
    """Everything that is killed, and what scripts of runs share."""

    def __init__(self, folder: pathlib.Path, *, webs: int = 3, daemons: int = 2, runners: int = 4) -> None:
        self.folder = folder
        self.marks = folder / "marks"  # a line of each script that began or ended
        self.scripts = folder / "scripts"
        self.scripts.mkdir(parents=True)
        self.cluster = Cluster(**_OPTIONS)
        self.url = self.cluster.make_database(DATABASE)
        self.nodes = [
            *(self._node("web", number, *GUNICORN) for number in range(webs)),
            *(self._node("daemon", number, MANAGE, "daemon") for number in range(daemons)),
            *(
                self._node("runner", number, MANAGE, "runner", "--labels", "work,narrow", "--parallel", "3")
                for number in range(runners)
            ),
        ]
        self.front = Proxy(*(node.installation.api_port for node in self.of("web")))
        for node in self.nodes:
            node.installation.environment["LOBWIFE_URL"] = f"http://127.0.0.1:{self.front.port}"
        self.nodes[0].installation.manage("migrate", "-v0")

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.signal(signal.SIGCONT)
            node.proxy.mend()
        for node in self.nodes:
            node.kill()
            node.proxy.close()
        self.front.close()
        self.cluster.remove()

    def of(self, kind: str) -> list[Node]:
        return [node for node in self.nodes if node.kind == kind]

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        self.wait_until_well()

    def wait_until_well(self) -> None:
        """Wait until every node beats and a daemon leads."""
        wait_for(self.is_well, START_SECONDS, "every node is well")

    def is_well(self) -> bool:
        with contextlib.suppress(psycopg.Error):
            rows = self.query(_ALIVE)
            beating = {int(name.rpartition("/")[2]) for name, _ in rows}
            # A node of web is gunicorn's worker.
            others = {node.process.pid for node in self.nodes if node.process and node.kind != "web"}
            return (
                sum(leads for _, leads in rows) == 1
                and others <= beating
                and len(beating - others) >= len(self.of("web"))
                and all(node.installation._answers() for node in self.of("web"))
            )
        return False

    def leader(self) -> Node | None:
        with contextlib.suppress(psycopg.Error):
            leading = {int(name.rpartition("/")[2]) for name, leads in self.query(_ALIVE) if leads}
            return next((node for node in self.of("daemon") if node.process and node.process.pid in leading), None)
        return None

    def define(self, definitions: dict[str, Any]) -> None:
        """Import definitions of jobs and webhooks; JSON is YAML."""
        file = self.folder / "definitions.yaml"
        file.write_text(json.dumps(definitions))
        for what in definitions:
            self.nodes[0].installation.manage(what, "import", str(file))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database past all proxies."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql).fetchall()

    def stop(self) -> None:
        """End all in order."""
        for node in self.nodes:
            node.installation.stop()
            node.process = None

    def _node(self, kind: str, number: int, *arguments: str) -> Node:
        proxy = Proxy(self.cluster.socket)
        url = f"postgresql://lobwife@127.0.0.1:{proxy.port}/{DATABASE}?gssencmode=disable&sslmode=disable"
        installation = Installation(
            self.folder / f"{kind}-{number}",
            LOBWIFE_DATABASE_URL=url,
            LOBWIFE_SCRIPTS_DIR=str(self.scripts),
            LOBWIFE_LEASE_STRIKES="default=1000",
            LOBWIFE_LEASE_BACKOFF_SECONDS="1",
            LOBWIFE_WEB_REPLICAS="1",
        )
        return Node(kind, installation, proxy, arguments)
