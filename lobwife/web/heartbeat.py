"""The heartbeat of a process of web, where several share a database."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time

from django.db import connection
from django.db.utils import DatabaseError

from core.database.backend import is_postgres
from jobs import nodes
from jobs.models import NodeKind

log = logging.getLogger(__name__)


def start() -> None:
    """Beat from now on, in a thread; under gevent it is a greenlet."""
    if is_postgres():
        threading.Thread(target=_beat, name="heartbeat", daemon=True).start()


def leave() -> None:
    """Take the node away: the process ends."""
    try:
        _heartbeat_of(os.getpid()).leave()
    except DatabaseError as error:
        log.warning("this node could not be taken away: %s", error)


def _beat() -> None:
    is_well = True
    while True:
        try:
            _heartbeat_of(os.getpid()).beat()
            is_well = True
        except DatabaseError as error:
            if is_well:
                log.warning("this node can't give a sign of life: %s", error)
            is_well = False
        finally:
            connection.close()
        time.sleep(nodes.BEAT_SECONDS)


@functools.cache
def _heartbeat_of(process: int) -> nodes.Heartbeat:
    return nodes.Heartbeat(NodeKind.WEB)
