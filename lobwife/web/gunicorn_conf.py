"""gunicorn's configuration: one application on both ports, two workers in which each client has a greenlet."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
from typing import Any

import gevent
from gevent import monkey

gc.disable()  # until all is imported, most of which stays
monkey.patch_all()  # before the application is imported, with which the workers are forked

from gunicorn.glogging import Logger  # noqa: E402

from core import env, logs  # noqa: E402
from core.processes import keep_files_private, raise_open_files, stop_with_parent, stop_with_supervisor  # noqa: E402

log = logging.getLogger("lobwife.web")


class SharedLogger(Logger):  # type: ignore[misc]  # the package has no types
    """Writes gunicorn's messages with all others; its `logconfig_dict` would format a line for each request too."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        logs.configure()
        self.error_log.handlers.clear()
        self.error_log.propagate = True

    def access(self, *_: object) -> None:
        """Write no line for a request; to find out that none is wanted costs a fortieth of a read."""


_address = env.text("LOBWIFE_BIND", "127.0.0.1")
_host = f"[{_address}]" if ":" in _address else _address
bind = [
    f"{_host}:{env.integer('LOBWIFE_WEB_PORT', 8080, at_least=1, at_most=65535)}",
    f"{_host}:{env.integer('LOBWIFE_API_PORT', 8081, at_least=1, at_most=65535)}",
]
wsgi_app = "lobwife.wsgi:application"
worker_class = "lobwife.web.gevent_worker.BoundedWorker"
logger_class = SharedLogger
preload_app = True  # what the application imports is in memory once
workers = env.integer("LOBWIFE_WORKERS", 2, at_least=1, at_most=32)
# Of each port. A connection that waits costs 17 kB; files that a worker needs for itself are left to it.
worker_connections = max(100, min(10_000, (raise_open_files() - 200) // len(bind)))
limit_request_fields = 64
limit_request_line = 8190
keepalive = 10  # seconds for the next request's head, silence before it included
sendfile = False  # it has no bound for a client that reads slowly
graceful_timeout = 4
timeout = 30
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 the sign of life needs no disk
proc_name = "lobwife-web"
loglevel = "warning"
forwarded_allow_ips = ""
# Every call is answered within 8 seconds, a locked database included: web waits less for it than the daemon.
os.environ.setdefault("LOBWIFE_DB_TIMEOUT", "5")
# Clients come by the thousand, the work on their requests does not.
os.environ.setdefault("LOBWIFE_DB_CONNECTIONS", "16")


def when_ready(server: Any) -> None:
    """Have the garbage collector look at what requests make, not at the application, and not during each of them."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    log.info("web answers on http://%s and http://%s", *bind)  # gunicorn's own log says all or nothing


def on_starting(server: Any) -> None:
    """Write files for this account alone; nothing of web outlives a supervisor that was killed."""
    keep_files_private()
    stop_with_supervisor()


def post_fork(server: Any, worker: Any) -> None:
    """Let a thread that waits for a slow disk go on soon after: it has the write gate until then."""
    stop_with_parent(server.pid)
    sys.setswitchinterval(0.0005)


def post_worker_init(worker: Any) -> None:
    """Beat as a node, by a module that needs the application, which is loaded by now."""
    importlib.import_module("lobwife.web.heartbeat").start()


def worker_exit(server: Any, worker: Any) -> None:
    importlib.import_module("lobwife.web.heartbeat").leave()


def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
    """Let the others go on: without it a busy connection keeps them waiting for 200 ms."""
    gevent.idle()
