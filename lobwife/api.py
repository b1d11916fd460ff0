"""The one NinjaAPI: it mounts every app's router and maps the project's errors."""

from __future__ import annotations

from django.db.utils import DatabaseError

import broker.api
import jobs.api
import ops.health
import ops.metrics
import tasks.api
import vaultsync.api
from access.openapi import GuardedAPI
from core.errors import LobwifeError
from lobwife import __version__
from lobwife.error_responses import database_error, lobwife_error

api = GuardedAPI(
    title="lobwife",
    version=__version__,
    description="Jobs, tasks, tokens and the vault of a fleet of coding agents.",
    docs_url="/api/docs",
    openapi_url="/api/openapi.json",
    urls_namespace="api",
)
api.add_router("", ops.health.router)
api.add_router("", ops.metrics.router)
api.add_router("/api", jobs.api.router)
api.add_router("/api/v1", jobs.api.v1)
api.add_router("/api", tasks.api.router)
api.add_router("/api", broker.api.router)
api.add_router("/api", vaultsync.api.router)

api.exception_handler(LobwifeError)(lobwife_error)
api.exception_handler(DatabaseError)(database_error)
