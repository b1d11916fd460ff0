"""Making a token: ask GitHub, check that it is within what was asked for, store it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import close_old_connections, transaction

from broker.github.client import GitHub, GitHubDown, Minted, RateLimited
from broker.models import GitHubState, IssuedToken
from broker.tokens.scope import Scope, at_most, bare_names
from core import encryption
from core.errors import LobwifeError, Unavailable, Upstream
from core.timestamps import parse, utc_now
from tasks.services import newest_event_id

log = logging.getLogger(__name__)
REFRESH_BEFORE = timedelta(minutes=10)
REVOKE_SECONDS = 1.5
_PAUSE_WHEN_SLOW = timedelta(seconds=2)
_USUAL_LIFE, _LONGEST_LIFE = timedelta(hours=1), timedelta(hours=24)


@dataclass(frozen=True)
class MintRequest:
    """A token to be made: for whom, with what scope, until when (a monotonic time) GitHub may be waited for."""

    scope: Scope
    requested_id: str
    until: float


@dataclass(frozen=True)
class NewToken:
    """A token that GitHub made and its row, which is not stored yet.

    `excess` is set when it may do more than was asked for: it must then be stored as ended, and revoked.
    """

    minted: Minted
    row: IssuedToken
    github: GitHub
    excess: Upstream | None


def check_not_blocked(state: GitHubState) -> None:
    """Raises Unavailable as long as GitHub said to wait."""
    if state.blocked_until is not None and state.blocked_until > utc_now():
        seconds = max(1, round((state.blocked_until - utc_now()).total_seconds()))
        raise Unavailable(state.last_error or "GitHub said to wait", retry_after=seconds)


def mint(request: MintRequest, state: GitHubState) -> NewToken:
    """Have GitHub make a token; raises what GitHub raises, and Unprocessable for a repository of another owner."""
    scope = request.scope
    try:
        github = GitHub.configured()
        github.clock_skew = state.clock_skew
        owner, names = _owner_and_names(github, state, request)
        close_old_connections()  # other requests use it while GitHub is waited for
        minted = github.mint(names, scope.permissions, until=request.until)
    except LobwifeError as error:
        _remember(error)
        raise
    try:
        expires_at, excess = verified(minted.data, scope, owner, names, github.clock_skew), None
    except Upstream as error:
        _remember(error)
        expires_at, excess = utc_now() + _USUAL_LIFE, error
    row = IssuedToken(
        key=scope.key,
        requested_id=request.requested_id,
        generation=scope.generation,
        scope_digest=scope.digest,
        encrypted=encryption.encrypt(minted.token, purpose=IssuedToken.PURPOSE),
        sha256=_fingerprint(minted.token),
        repos=json.dumps(list(scope.repositories) if scope.repositories is not None else ["*"]),
        permissions=json.dumps(dict(scope.permissions)),
        minted_at=utc_now(),
        expires_at=expires_at,
        refresh_at=expires_at - timedelta(seconds=github.clock_skew) - REFRESH_BEFORE,
    )
    return NewToken(minted, row, github, excess)


def store(token: NewToken, refusal: LobwifeError | None) -> None:
    """Store a new token, within the caller's transaction.

    With a `refusal` it is stored as ended: the daemon revokes it unless the caller has done so by then.
    """
    row, minted = token.row, token.minted
    row.event_id = newest_event_id()
    if refusal is not None:
        row.state, row.reason = IssuedToken.State.ENDED, str(refusal)
        row.retry_at = utc_now() + timedelta(seconds=2 * REVOKE_SECONDS)
    row.save(force_insert=True)
    GitHubState.objects.filter(pk=1).update(
        last_mint_at=row.minted_at,
        rate_left=minted.rate_left,
        rate_reset_at=datetime.fromtimestamp(minted.rate_reset, UTC) if minted.rate_reset else None,
        blocked_until=None,
        clock_skew=token.github.clock_skew,
    )


@contextlib.contextmanager
def revoked_unless_stored(token: NewToken) -> Iterator[None]:
    """Around the transaction that stores a token: when it fails, nobody else will ever revoke it."""
    try:
        yield
    except Exception:
        try:
            token.github.revoke(token.minted.token, until=time.monotonic() + REVOKE_SECONDS)
        except LobwifeError as error:
            log.warning("a token that could not be stored was not revoked and expires by itself: %s", error)
        raise


def verified(
    data: Mapping[str, Any], scope: Scope, owner: str, names: Sequence[str] | None, clock_skew: int = 0
) -> datetime:
    """Return when a token expires by GitHub's clock; raises Upstream when it isn't within what was asked for."""
    github_now = utc_now() + timedelta(seconds=clock_skew)
    expires_at = parse(data.get("expires_at"))
    if expires_at is None or not github_now < expires_at < github_now + _LONGEST_LIFE:
        raise Upstream("GitHub made a token whose end can't be used")
    permissions = data.get("permissions")
    if not isinstance(permissions, dict):
        raise Upstream("GitHub made a token and does not say what it may do")
    for name, level in permissions.items():
        if not at_most(level, scope.permissions.get(name, "read" if name == "metadata" else None)):
            raise Upstream(f"GitHub made a token that may do more than was asked for ({str(name)[:50]})")
    if names is None:
        return expires_at
    repositories = data.get("repositories")
    if data.get("repository_selection") != "selected" or not isinstance(repositories, list) or not repositories:
        raise Upstream("GitHub made a token that is not limited to the repositories asked for")
    requested = {f"{owner}/{name}".lower() for name in names}
    for repository in repositories:
        full_name = repository.get("full_name") if isinstance(repository, dict) else None
        if not isinstance(full_name, str) or full_name.lower() not in requested:
            raise Upstream("GitHub made a token for a repository that was not asked for")
    return expires_at


def _owner_and_names(github: GitHub, state: GitHubState, request: MintRequest) -> tuple[str, list[str] | None]:
    """Return the owner and the bare names of the repositories, None for all of the installation.

    GitHub is asked for the owner once. Raises Unprocessable for a repository of another owner.
    """
    repositories = request.scope.repositories
    if repositories is None:
        return "", None
    owner = state.owner if state.installation_id == github.installation_id else ""
    if not owner:
        owner = github.owner(until=request.until)
        with transaction.atomic():
            GitHubState.objects.filter(pk=1).update(owner=owner, installation_id=github.installation_id)
    return owner, bare_names(repositories, owner)


def _fingerprint(token: str) -> str:
    """Return base64(SHA-256(token)), which GitHub's audit log shows as `hashed_token`."""
    return base64.b64encode(hashlib.sha256(token.encode()).digest()).decode()


def _remember(error: LobwifeError) -> None:
    """Store what GitHub said for operators, and keep the next calls from asking while it makes no sense."""
    if type(error) is Unavailable:  # GitHub was not asked
        return
    now = utc_now()
    changes: dict[str, Any] = {"last_error": str(error), "last_error_at": now}
    if isinstance(error, RateLimited):
        changes |= {"blocked_until": now + timedelta(seconds=error.retry_after or 1), "rate_left": 0}
    elif isinstance(error, GitHubDown) and error.slow:
        changes["blocked_until"] = now + _PAUSE_WHEN_SLOW
    elif isinstance(error, Upstream):
        changes["owner"] = ""  # perhaps it was renamed: ask again
    with transaction.atomic():
        GitHubState.objects.filter(pk=1).update(**changes)
