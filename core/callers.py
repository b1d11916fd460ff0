"""Who calls: what authentication puts on a request as `request.caller`, and the limits that go with a role."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from django.http import HttpRequest

from core.errors import Forbidden, NotFound


class Role(StrEnum):
    """What a caller is to the service; access/roles.py says what each may do."""

    AGENT = "agent"
    SERVICE = "service"
    OPERATOR = "operator"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. Its text is its identity, which is empty while nobody was identified."""

    identity: str
    role: Role
    address: str = ""
    task_id: int | None = None  # the one task of an agent; None: it has none
    service: str = ""  # as which a service gets tokens: under this name, and names that go on after a hyphen

    def __str__(self) -> str:
        return self.identity

    @property
    def is_agent(self) -> bool:
        return self.role is Role.AGENT

    def sees(self, task_id: int | None) -> bool:
        """Whether this task exists for the caller: for an agent only its own does."""
        return not self.is_agent or (task_id is not None and task_id == self.task_id)

    def must_see(self, task_id: int | None, shown_id: str) -> None:
        """Raises NotFound, as for a task that is not there, when it is not the agent's own."""
        if not self.sees(task_id):
            raise NotFound(f"Task {shown_id[:100]} not found")

    def must_be_service(self, name: str) -> None:
        """Raises Forbidden when a service asks for the token of another one."""
        if self.role is not Role.SERVICE:
            return
        if not self.service or (name != self.service and not name.startswith(f"{self.service}-")):
            raise Forbidden(f"{self.identity} gets service tokens as {self.service or 'nobody'}, not as {name[:100]}")


UNIDENTIFIED = Caller("", Role.OPERATOR)


def caller_of(request: HttpRequest) -> Caller:
    """The caller that authentication put on the request; outside of REST calls nobody in particular."""
    caller: Caller = getattr(request, "caller", UNIDENTIFIED)
    return caller
