"""Authentication: the caller of a credential or a session, the roles of people, addresses."""

from __future__ import annotations

import ipaddress
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user, hashers
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, Permission, User
from django.core.exceptions import RequestDataTooBig
from django.db.models import QuerySet
from django.http import HttpRequest
from ninja.utils import check_csrf

from access import keys
from access.kubernetes import Cluster
from access.throttle import limited_address
from core.callers import Caller, Role, identity_of_account
from core.errors import Forbidden, TooLarge
from core.processes import in_native_thread

# The groups of people. Their permissions are rules and no rows, so that a new model is covered from its first day.
OPERATORS = "Operators"
VIEWERS = "Viewers"

_KEY_PREFIX = "lw_"
_SAME_ORIGIN = frozenset({None, "none", "same-origin"})  # values of Sec-Fetch-Site
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class PBKDF2PasswordHasher(hashers.PBKDF2PasswordHasher):
    """Django's, which takes a third of a second, in a thread that keeps nobody else waiting."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        return in_native_thread(super().encode, password, salt, iterations)


class RoleBackend(ModelBackend):
    """Django's backend, in which Operators have every permission and Viewers every permission to view."""

    def _get_group_permissions(self, user_obj: Any) -> QuerySet[Permission]:
        names = set(user_obj.groups.values_list("name", flat=True))
        if OPERATORS in names:
            return Permission.objects.all()
        granted: QuerySet[Permission] = super()._get_group_permissions(user_obj)  # type: ignore[misc]
        if VIEWERS in names:
            return (granted | Permission.objects.filter(codename__startswith="view_")).distinct()
        return granted


def role_of(user: User) -> Role | None:
    """Return what a person may do by REST, the same as in the admin."""
    if not (user.is_active and user.is_staff):
        return None
    if user.is_superuser:
        return Role.OPERATOR
    groups = set(user.groups.values_list("name", flat=True))
    if OPERATORS in groups:
        return Role.OPERATOR
    return Role.VIEWER if VIEWERS in groups else None


def address_of(request: HttpRequest) -> str:
    """Return the address of the client: the peer's, or the last hop before proxies that the settings trust."""
    address = str(request.META.get("REMOTE_ADDR", ""))
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if settings.TRUSTED_PROXIES else []
    while hops and _is_trusted_proxy(address):
        hop = hops.pop().strip()
        try:
            address = str(ipaddress.ip_address(hop))
        except ValueError:
            break
    return address


def limited_address_of(request: HttpRequest) -> str:
    """Return the address that limits count by."""
    return limited_address(address_of(request))


def _is_trusted_proxy(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in settings.TRUSTED_PROXIES)


def is_cross_site(request: HttpRequest) -> bool:
    """Return whether a browser sent this for a page of another origin; another port is another origin."""
    meta = request.META
    if meta.get("HTTP_SEC_FETCH_SITE") not in _SAME_ORIGIN:
        return True
    origin = meta.get("HTTP_ORIGIN")
    return origin is not None and origin != f"{request.scheme}://{request.get_host()}"


def is_cross_site_write(request: HttpRequest) -> bool:
    """Return whether a page of another origin wants to write."""
    return request.method not in _SAFE_METHODS and is_cross_site(request)


def session_caller(request: HttpRequest) -> Caller | None:
    """Return the operator or viewer whose session the request has; None without one.

    Raises Forbidden for a write without a CSRF token, and for a user without a role.
    """
    user: AbstractBaseUser | AnonymousUser | None = getattr(request, "user", None)
    if not isinstance(user, User) or not user.is_authenticated:
        return None
    role = role_of(user)
    if role is None:
        raise Forbidden(f"{user.get_username()} has no role: an operator adds them to {OPERATORS} or {VIEWERS}")
    if _fails_csrf(request):
        raise Forbidden("a write with a session needs its CSRF token: send the csrftoken cookie as X-CSRFToken")
    return Caller(identity_of_account(user.get_username()), role, address_of(request))


def session_caller_now(request: HttpRequest) -> Caller | None:
    """Return what session_caller() does, with the session and its user read anew."""
    request.session = type(request.session)(request.session.session_key)
    request.user = get_user(request)
    return session_caller(request)


def _fails_csrf(request: HttpRequest) -> bool:
    """Return whether Django's CSRF middleware would refuse the request; raises TooLarge."""
    try:
        _ = request.body  # before the check parses a form, after which the body could not be read any more
    except RequestDataTooBig:
        raise TooLarge("the body is larger than 1 MiB") from None
    return check_csrf(request) is not None


def is_api_key(authorization: str) -> bool:
    """Return whether an `Authorization` header has what looks like one of our keys."""
    return authorization.partition(" ")[2].strip().startswith(_KEY_PREFIX)


def bearer_caller(
    authorization: str, address: str, cluster: Cluster | None, *, renews_lease: bool = True
) -> Caller | None:
    """Return the caller of an `Authorization` header; None if it is not a valid bearer token."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip()
    if token.startswith(_KEY_PREFIX) or cluster is None:
        return keys.authenticate(token, address, renews_lease=renews_lease)
    return cluster.authenticate(token, address)
