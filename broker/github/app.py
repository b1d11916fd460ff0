"""The GitHub App as the settings configure it."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings

from broker.github.client import GitHub
from broker.github.keys import UnusableKey, private_keys
from core.errors import Unavailable

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def configured() -> GitHub:
    """Return the installation as the settings name it; raises Unavailable with what is missing."""
    try:
        keys = private_keys()
    except UnusableKey as error:
        raise _not_configured(str(error)) from None
    if not keys:
        raise _not_configured("no PEM key")
    if not settings.GH_APP_ID:
        raise _not_configured("no GH_APP_ID")
    if not settings.GH_APP_INSTALL_ID.isdigit():
        raise _not_configured("GH_APP_INSTALL_ID must be the installation's number")
    if not is_safe_url(settings.GITHUB_API_URL):
        raise _not_configured("GITHUB_API_URL must begin with https://")
    return GitHub(settings.GITHUB_API_URL, settings.GH_APP_ID, settings.GH_APP_INSTALL_ID, keys)


def without_key() -> GitHub:
    """Return GitHub for revoking, which needs no key of the App; raises Unavailable for an unsafe address."""
    if not is_safe_url(settings.GITHUB_API_URL):
        raise Unavailable("GITHUB_API_URL must begin with https://")
    return GitHub(settings.GITHUB_API_URL, settings.GH_APP_ID, settings.GH_APP_INSTALL_ID, [])


def problem() -> str | None:
    """Return the reason why there is no App; None when there is one."""
    try:
        configured()
    except Unavailable as error:
        return str(error)
    return None


def is_safe_url(url: str) -> bool:
    """Return whether credentials may go there: https, or this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or parts.username:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


def _not_configured(reason: str) -> Unavailable:
    return Unavailable(f"Token broker not configured ({reason})")
