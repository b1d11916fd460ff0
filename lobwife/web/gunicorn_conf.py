"""gunicorn's configuration: one application on both ports, two workers of four threads."""

from __future__ import annotations

import logging
import os
import resource
from typing import Any

from core import env
from core.parent_death import stop_with_parent, stop_with_supervisor

log = logging.getLogger("lobwife.web")


def raise_open_files() -> int:
    """The soft limit of open files is raised to the hard one; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


_address = env.text("LOBWIFE_BIND", "127.0.0.1")
_host = f"[{_address}]" if ":" in _address else _address
bind = [
    f"{_host}:{env.integer('LOBWIFE_WEB_PORT', 8080, at_least=1, at_most=65535)}",
    f"{_host}:{env.integer('LOBWIFE_API_PORT', 8081, at_least=1, at_most=65535)}",
]
wsgi_app = "lobwife.wsgi:application"
worker_class = "lobwife.web.gunicorn_worker.PatientWorker"
logger_class = "lobwife.web.gunicorn_logger.SharedLogger"
workers = env.integer("LOBWIFE_WORKERS", 2, at_least=1, at_most=32)
threads = env.integer("LOBWIFE_THREADS", 4, at_least=1, at_most=64)
# Waiting connections cost no thread: as many as there may be open files, less what a worker needs for itself.
worker_connections = max(100, min(10_000, raise_open_files() - 200))
limit_request_fields = 64
limit_request_line = 8190
keepalive = 15
graceful_timeout = 4
timeout = 30
proc_name = "lobwife-web"
loglevel = "warning"
forwarded_allow_ips = ""
# Every call is answered within 8 seconds, a locked database included: web waits less for it than the daemon.
os.environ.setdefault("LOBWIFE_DB_TIMEOUT", "5")


def when_ready(server: Any) -> None:
    log.info("web answers on http://%s and http://%s", *bind)  # gunicorn's own log says all or nothing


def on_starting(server: Any) -> None:
    """Nothing of web outlives a supervisor that was killed."""
    stop_with_supervisor()


def post_fork(server: Any, worker: Any) -> None:
    stop_with_parent(server.pid)
