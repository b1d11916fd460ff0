"""A client of lobwife: tasks, leases, events, questions and tokens over REST. Standard library only."""

import importlib

TYPE_CHECKING = False  # typing's own would cost as much as Python's start
if TYPE_CHECKING:
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
_MODULES = {"Client": ".client", "Lease": ".lease"}


def __getattr__(name: str) -> object:
    """Import a name when it is first used: HTTP and TLS take most of the time that everything takes."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES.get(name, ".errors"), __name__), name)
