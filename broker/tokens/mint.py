"""Making a token: ask GitHub, check that it is within what was asked for, store it unless the right to it has ended."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import close_old_connections, transaction

from broker.github import app
from broker.github.client import GitHub, GitHubDown, Minted, RateLimited
from broker.models import GitHubState, IssuedToken
from broker.tokens import encryption, revoke, single_flight
from broker.tokens.scope import Scope, at_most, bare_names
from broker.tokens.single_flight import Deadline
from core.errors import LobwifeError, Unavailable, Upstream
from core.timestamps import parse, utc_now
from tasks.services import newest_event_id

log = logging.getLogger(__name__)
REFRESH_BEFORE = timedelta(minutes=10)
_REVOKE_SECONDS = 1.5
_PAUSE_WHEN_SLOW = timedelta(seconds=2)
_USUAL_LIFE, _LONGEST_LIFE = timedelta(hours=1), timedelta(hours=24)
State = IssuedToken.State


@dataclass(frozen=True)
class Right:
    """Whether, at the moment of storing, the token may be given out: `reason` is empty when it may."""

    reason: str
    refuse: bool = False


def mint(
    *,
    scope: Scope,
    shown_id: str,
    holder: str,
    deadline: Deadline,
    state: GitHubState,
    right: Callable[[], Right],
    on_stored: Callable[[IssuedToken], None],
) -> tuple[str, IssuedToken, Right]:
    """A new token, stored, the claim released; `right` and `on_stored` run in the transaction that stores it.

    A token whose right has ended meanwhile is stored as ended and revoked. Raises what GitHub raises, Upstream when the
    answer is wider than what was asked for, Unprocessable for a foreign owner.
    """
    try:
        github = app.configured()
        github.clock_skew = state.clock_skew
        owner, names = _names(github, state, scope, deadline)
        close_old_connections()  # others use it meanwhile
        minted = github.mint(names, scope.permissions, until=deadline.github_until)
        wrong = None
        try:
            expires_at = verified(minted.data, scope, owner, names, github.clock_skew)
        except Upstream as error:
            wrong, expires_at = error, utc_now() + _USUAL_LIFE
        row = _row(scope, shown_id, minted.token, expires_at, github.clock_skew)
        found = _store(row, minted, github, Right(str(wrong)) if wrong else None, right, on_stored, holder)
        if found.reason:
            revoke.revoke(row, seconds=_REVOKE_SECONDS)
        if wrong is not None:
            raise wrong
    except LobwifeError as error:
        _note_failure(error)
        single_flight.release_failed(scope.digest, holder, error)
        raise
    return minted.token, row, found


def check_not_blocked(state: GitHubState) -> None:
    """Raises Unavailable while GitHub's word to wait holds."""
    if state.blocked_until is not None and state.blocked_until > utc_now():
        seconds = max(1, round((state.blocked_until - utc_now()).total_seconds()))
        raise Unavailable(state.last_error or "GitHub said to wait", retry_after=seconds)


def verified(
    data: Mapping[str, Any], scope: Scope, owner: str, names: Sequence[str] | None, clock_skew: int = 0
) -> datetime:
    """When the token expires by GitHub's clock; raises Upstream when the answer isn't within what was asked for."""
    there = utc_now() + timedelta(seconds=clock_skew)
    expires_at = parse(data.get("expires_at"))
    if expires_at is None or not there < expires_at < there + _LONGEST_LIFE:
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
    asked = {f"{owner}/{name}".lower() for name in names}
    for each in repositories:
        full_name = each.get("full_name") if isinstance(each, dict) else None
        if not isinstance(full_name, str) or full_name.lower() not in asked:
            raise Upstream("GitHub made a token for a repository that was not asked for")
    return expires_at


def _names(github: GitHub, state: GitHubState, scope: Scope, deadline: Deadline) -> tuple[str, list[str] | None]:
    """The owner, and the bare names; the owner is asked for once. Raises Unprocessable for a foreign repository."""
    if scope.repositories is None:
        return "", None
    owner = state.owner if state.installation_id == github.installation_id else ""
    if not owner:
        owner = github.owner(until=deadline.github_until)
        with transaction.atomic():
            GitHubState.objects.filter(pk=1).update(owner=owner, installation_id=github.installation_id)
    return owner, bare_names(scope.repositories, owner)


def _row(scope: Scope, shown_id: str, token: str, expires_at: datetime, clock_skew: int) -> IssuedToken:
    return IssuedToken(
        subject=scope.subject,
        shown_id=shown_id,
        generation=scope.generation,
        scope_digest=scope.digest,
        sealed=encryption.seal(token),
        sha256=encryption.fingerprint(token),
        repos=json.dumps(list(scope.repositories) if scope.repositories is not None else ["*"]),
        permissions=json.dumps(dict(scope.permissions)),
        minted_at=utc_now(),
        expires_at=expires_at,
        refresh_at=expires_at - timedelta(seconds=clock_skew) - REFRESH_BEFORE,
    )


def _store(
    row: IssuedToken,
    minted: Minted,
    github: GitHub,
    wrong: Right | None,
    right: Callable[[], Right],
    on_stored: Callable[[IssuedToken], None],
    holder: str,
) -> Right:
    """Store the token, as ended when it must not be used, so that the daemon revokes it if this process can't."""
    reset = datetime.fromtimestamp(minted.rate_reset, UTC) if minted.rate_reset else None
    try:
        with transaction.atomic():
            found = wrong or right()
            row.event_id = newest_event_id()
            if found.reason:
                row.state, row.reason = State.ENDED, found.reason
                row.retry_at = utc_now() + timedelta(seconds=2 * _REVOKE_SECONDS)
            row.save(force_insert=True)
            if wrong is None:
                single_flight.release(row.scope_digest, holder)
            GitHubState.objects.filter(pk=1).update(
                last_mint_at=row.minted_at,
                rate_left=minted.rate_left,
                rate_reset_at=reset,
                blocked_until=None,
                clock_skew=github.clock_skew,
            )
            if not found.reason:
                on_stored(row)
    except Exception:
        _revoke_unstored(github, minted.token)
        raise
    return found


def _revoke_unstored(github: GitHub, token: str) -> None:
    """Try once to end a token that nobody will get and nothing remembers."""
    try:
        github.revoke(token, until=time.monotonic() + _REVOKE_SECONDS)
    except LobwifeError as error:
        log.warning("a token that could not be stored was not revoked and ends by itself: %s", error)


def _note_failure(error: LobwifeError) -> None:
    """Show operators what GitHub said, and keep the next calls from asking while it makes no sense."""
    now = utc_now()
    changes: dict[str, Any] = {"last_error": str(error), "last_error_at": now}
    if isinstance(error, RateLimited):
        changes |= {"blocked_until": now + timedelta(seconds=error.retry_after or 1), "rate_left": 0}
    elif isinstance(error, GitHubDown) and error.slow:
        changes["blocked_until"] = now + _PAUSE_WHEN_SLOW
    elif isinstance(error, Upstream):
        changes["owner"] = ""  # perhaps it was renamed: ask again
    if type(error) is not Unavailable:  # what was known before GitHub was asked is no news
        with transaction.atomic():
            GitHubState.objects.filter(pk=1).update(**changes)
