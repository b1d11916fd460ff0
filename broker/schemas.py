"""Bodies that callers send to the broker, and its answers."""

from __future__ import annotations

from typing import Annotated, Any

from ninja import Schema
from pydantic import BeforeValidator, Field

from tasks.schemas import LONGEST_NAME, Body, Repos, Word, text_up_to

AnyId = Annotated[str, BeforeValidator(text_up_to(LONGEST_NAME))]  # the name of a task is one


class NewRegistration(Body):
    """The body of the two `register` routes."""

    repos: Repos | None = Field(None, description="owner/name; a bare name means the installation's owner")
    lobster_type: Word | None = Field(None, description="The agent's type; the settings may give it other permissions.")


class TokenRequest(Body):
    """The body of `POST /api/token`."""

    task_id: AnyId | None = Field(None, description="T42, a slug, a name, an assignee, or a legacy id")
    permissions: Any = Field(None, description="Narrower permissions than the registration's, if fewer will do.")


class ServiceTokenRequest(Body):
    """The body of `POST /api/v1/service-token`."""

    service: Word | None = None


class TokenAnswer(Schema):
    token: str
    expires_at: str


class Registered(Schema):
    status: str
    task_id: str


class LegacyEntry(Schema):
    repos: list[str] | None
    lobster_type: str
    registered_at: str
    status: str
    token_count: int


class AuditEntry(Schema):
    """An entry as the older service showed it."""

    timestamp: str
    task_id: str
    repos: list[str] | None
    action: str


class AuditDetail(AuditEntry):
    """An entry with every column."""

    id: int
    task_number: int | None
    outcome: str | None
    reason: str | None
    identity: str | None
    address: str | None
    permissions: dict[str, str] | None
    expires_at: str | None
    token_sha256: str | None
    repeats: int | None


class AuditPage(Schema):
    """Newest first; `next` is the `before` of the next page, null on the last."""

    entries: list[AuditDetail]
    next: int | None
