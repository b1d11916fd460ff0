"""gunicorn's configuration: one application on both ports, two workers of four threads."""

from __future__ import annotations

import os
from typing import Any

from lobwife.base import env
from lobwife.parent_death import stop_with_parent, stop_with_supervisor

_address = env.text("LOBWIFE_BIND", "127.0.0.1")
_host = f"[{_address}]" if ":" in _address else _address
bind = [
    f"{_host}:{env.integer('LOBWIFE_WEB_PORT', 8080, at_least=1, at_most=65535)}",
    f"{_host}:{env.integer('LOBWIFE_API_PORT', 8081, at_least=1, at_most=65535)}",
]
wsgi_app = "lobwife.wsgi:application"
worker_class = "gthread"
workers = env.integer("LOBWIFE_WORKERS", 2, at_least=1, at_most=32)
threads = env.integer("LOBWIFE_THREADS", 4, at_least=1, at_most=64)
keepalive = 15
graceful_timeout = 4
timeout = 30
proc_name = "lobwife-web"
loglevel = "warning"
forwarded_allow_ips = ""
# Every call is answered within 8 seconds, a locked database included: web waits less for it than the daemon.
os.environ.setdefault("LOBWIFE_DB_TIMEOUT", "5")


def when_ready(server: Any) -> None:
    print(f"web answers on http://{bind[0]} and http://{bind[1]}", flush=True)  # gunicorn's own log says all or nothing


def on_starting(server: Any) -> None:
    """Nothing of web outlives a supervisor that was killed."""
    stop_with_supervisor()


def post_fork(server: Any, worker: Any) -> None:
    stop_with_parent(server.pid)
