"""A client of lobwife: tasks, leases, events, questions and tokens over REST. Standard library only."""

from .client import Client
from .errors import BadSettings, Conflict, CursorGone, LobwifeError, NotFound, Refused, Unauthorized, Unreachable
from .lease import Lease

__all__ = [
    "BadSettings",
    "Client",
    "Conflict",
    "CursorGone",
    "Lease",
    "LobwifeError",
    "NotFound",
    "Refused",
    "Unauthorized",
    "Unreachable",
]
