"""Who is calling: the holder of a credential, an operator with a session, or somebody on this very machine."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from access.groups import OPERATORS, VIEWERS
from access.keys import caller_with
from access.kubernetes import Cluster
from core.callers import Caller, Role
from core.errors import Forbidden, TooLarge

# Of loopback: whoever comes by a proxy or from a page of another site is not.
_FORWARDED = (
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_SERVER",
    "HTTP_X_REAL_IP",
    "HTTP_X_CLIENT_IP",
    "HTTP_TRUE_CLIENT_IP",
    "HTTP_CF_CONNECTING_IP",
)
_SAME_SITE = frozenset({None, "none", "same-origin"})
_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOCAL = {address: Caller("local", Role.OPERATOR, address) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1")}


def local_caller(request: HttpRequest) -> Caller | None:
    """The caller `local`, of role operator: a program on this machine, or in this pod."""
    meta = request.META
    caller = _LOCAL.get(meta.get("REMOTE_ADDR", ""))
    if caller is None or not settings.TRUST_LOOPBACK or came_through_a_proxy(request) or is_cross_site(request):
        return None
    if "*" in settings.ALLOWED_HOSTS and _name_of(request.get_host()) not in _LOOPBACK_HOSTS:
        return None  # with every Host allowed, a foreign name may have been pointed at loopback
    return caller


def came_through_a_proxy(request: HttpRequest) -> bool:
    meta = request.META
    return any(name in meta for name in _FORWARDED)


def is_cross_site(request: HttpRequest) -> bool:
    """Whether a browser sent this for a page of another origin; another port of one host is another origin."""
    meta = request.META
    if meta.get("HTTP_SEC_FETCH_SITE") not in _SAME_SITE:
        return True
    origin = meta.get("HTTP_ORIGIN")
    return origin is not None and origin != f"{request.scheme}://{request.get_host()}"


def is_cross_site_write(request: HttpRequest) -> bool:
    return request.method not in _SAFE and is_cross_site(request)


def session_caller(request: HttpRequest) -> Caller | None:
    """The operator or viewer whose session the request has; None without one.

    Raises Forbidden for a write without a CSRF token, and for a user without a role.
    """
    user: AbstractBaseUser | AnonymousUser | None = getattr(request, "user", None)
    if not isinstance(user, User) or not user.is_authenticated:
        return None
    role = role_of(user)
    if role is None:
        raise Forbidden(f"{user.get_username()} has no role: an operator adds them to {OPERATORS} or {VIEWERS}")
    try:
        _ = request.body  # before the check reads a form, after which there would be no body left
    except RequestDataTooBig:
        raise TooLarge("the body is larger than 1 MiB") from None
    if CsrfViewMiddleware(_never).process_view(request, _never, (), {}) is not None:
        raise Forbidden("a write with a session needs its CSRF token: send the csrftoken cookie as X-CSRFToken")
    return Caller(user.get_username(), role, request.META.get("REMOTE_ADDR", ""))


def role_of(user: User) -> Role | None:
    """What a person may do by REST, the same as in the admin."""
    if not (user.is_active and user.is_staff):
        return None
    if user.is_superuser:
        return Role.OPERATOR
    groups = set(user.groups.values_list("name", flat=True))
    return Role.OPERATOR if OPERATORS in groups else Role.VIEWER if VIEWERS in groups else None


def credential_caller(credential: str, address: str, cluster: Cluster | None) -> Caller | None:
    """The caller of an `Authorization` header; None when it is not one that is good."""
    scheme, _, token = credential.partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip()
    if token.startswith("lw_") or cluster is None:
        return caller_with(token, address)
    return cluster.caller_with(token, address)


def _name_of(host: str) -> str:
    return host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host


def _never(request: HttpRequest) -> HttpResponse:
    raise AssertionError("asked for its opinion only")
