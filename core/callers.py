"""The caller of a request, as authentication puts it on `request.caller`, and the limits of its role."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from django.http import HttpRequest

from core.errors import Forbidden, NotFound


class Role(StrEnum):
    """The role of a caller; access/roles.py has what each role may do."""

    AGENT = "agent"
    SERVICE = "service"
    OPERATOR = "operator"
    VIEWER = "viewer"
    RUNNER = "runner"


LOCAL = "local"  # the identity of programs on this machine


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller; its identity is empty when nobody was identified."""

    identity: str
    role: Role
    address: str = ""
    task_id: int | None = None  # the only task of an agent; None: it has none
    service: str = ""  # a service gets tokens under this name, and under names that continue it after a hyphen
    fence: int | None = None  # of the lease that its key belongs to
    lease_is_over: bool = False

    def __str__(self) -> str:
        return self.identity

    @property
    def name(self) -> str:
        """The identity as histories and the audit record it."""
        return self.identity or "unidentified"

    @property
    def is_agent(self) -> bool:
        return self.role is Role.AGENT

    def may_see(self, task_id: int | None) -> bool:
        """Return whether the task exists for the caller: for an agent only its own does."""
        return not self.is_agent or (task_id is not None and task_id == self.task_id)

    def require_task(self, task_id: int | None, *, name: str) -> None:
        """Raise NotFound, as for a task that does not exist, unless the caller may see the task."""
        if not self.may_see(task_id):
            raise NotFound(f"Task {name[:100]} not found")

    def require_service(self, name: str) -> None:
        """Raise Forbidden when a service asks for the token of another one."""
        if self.role is not Role.SERVICE:
            return
        if not self.service or (name != self.service and not name.startswith(f"{self.service}-")):
            raise Forbidden(f"{self.identity} gets service tokens as {self.service or 'nobody'}, not as {name[:100]}")


UNIDENTIFIED = Caller("", Role.OPERATOR)


def identity_of_account(name: str) -> str:
    """Return the identity of somebody who signs in: their name, unless it is what local programs are called."""
    return f"account:{name}" if name == LOCAL else name


def operator_of(request: HttpRequest) -> Caller:
    """Return the caller of a page of the admin."""
    return Caller(identity_of_account(request.user.get_username()), Role.OPERATOR, request.META.get("REMOTE_ADDR", ""))


def caller_of(request: HttpRequest) -> Caller:
    """Return the caller of a REST request; UNIDENTIFIED for other requests."""
    caller: Caller = getattr(request, "caller", UNIDENTIFIED)
    return caller
