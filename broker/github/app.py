"""Is there a GitHub App, and how is GitHub reached."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings

from broker.github.client import GitHub
from broker.github.keys import UnusableKey, private_keys
from core.errors import Unavailable

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def configured() -> GitHub:
    """The installation as the settings name it; raises Unavailable with what is missing."""
    trouble = ""
    try:
        keys = private_keys()
    except UnusableKey as error:
        keys, trouble = [], str(error)
    if not keys:
        trouble = trouble or "no PEM key"
    elif not settings.GH_APP_ID:
        trouble = "no GH_APP_ID"
    elif not settings.GH_APP_INSTALL_ID.isdigit():
        trouble = "GH_APP_INSTALL_ID must be the installation's number"
    elif not is_safe_url(settings.GITHUB_API_URL):
        trouble = "GITHUB_API_URL must begin with https://"
    if trouble:
        raise Unavailable(f"Token broker not configured ({trouble})")
    return GitHub(settings.GITHUB_API_URL, settings.GH_APP_ID, settings.GH_APP_INSTALL_ID, keys)


def keyless() -> GitHub:
    """GitHub's address, good for revoking: that needs no key of the App. Raises Unavailable for an unsafe address."""
    if not is_safe_url(settings.GITHUB_API_URL):
        raise Unavailable("GITHUB_API_URL must begin with https://")
    return GitHub(settings.GITHUB_API_URL, settings.GH_APP_ID, settings.GH_APP_INSTALL_ID, [])


def trouble() -> str:
    """Why there is no App; empty when there is one."""
    try:
        configured()
    except Unavailable as error:
        return str(error)
    return ""


def is_safe_url(url: str) -> bool:
    """Whether credentials may go there: https, or this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return (
        bool(host)
        and not parts.username
        and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))
    )
