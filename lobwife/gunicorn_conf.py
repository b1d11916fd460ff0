"""gunicorn's configuration: one application on both ports, two workers of four threads."""

from __future__ import annotations

import os

from lobwife.base import env

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
