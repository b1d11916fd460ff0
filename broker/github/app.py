"""The GitHub App as the settings configure it, and its private keys: one, or two while they are rotated.

Keys are read when needed, so that a replaced file takes effect.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import pathlib
import stat
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings

from core import env
from core.errors import Unavailable

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_VARIABLES = ("GH_APP_PEM", "GH_APP_PEM_2")


class UnusableKey(Exception):
    """A key is configured and can't be used; the sentence says which and why, never what it is."""


def configured() -> list[RSAPrivateKey]:
    """Return the keys of the App as the settings name it; raises Unavailable with what is missing."""
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
    return keys


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


def private_keys() -> list[RSAPrivateKey]:
    """Return the keys in the order in which they are tried; empty when none is configured. Raises UnusableKey.

    A second key that can't be used does not stop the first from working.
    """
    keys: list[RSAPrivateKey] = []
    errors: list[UnusableKey] = []
    for variable in _VARIABLES:
        try:
            pem = _pem(variable)
            if pem is not None:
                keys.append(_parse(variable, pem))
        except UnusableKey as error:
            errors.append(error)
    if errors and not keys:
        raise errors[0]
    return keys


def _pem(variable: str) -> bytes | None:
    """Return the PEM from `X` (base64), `X_FILE` (a file with the same) or `X_PATH` (the key file)."""
    value = env.text(variable)
    if value:
        return _decode(variable, value.encode())
    for name in (f"{variable}_FILE", f"{variable}_PATH"):
        path = env.text(name)
        if path:
            return _decode(name, _content(name, path))
    return None


def _content(name: str, path: str) -> bytes:
    try:
        with pathlib.Path(path).expanduser().open("rb") as file:
            return file.read()
    except OSError as error:
        raise UnusableKey(f"the file of {name} can't be read: {error.strerror}") from None


def open_key_files() -> list[str]:
    """Return the variables whose key file every user of this machine may read, as files of a Secret are by default."""
    names = []
    for name in (f"{variable}_{form}" for variable in _VARIABLES for form in ("FILE", "PATH")):
        path = env.text(name)
        with contextlib.suppress(OSError):
            if path and pathlib.Path(path).expanduser().stat().st_mode & stat.S_IRWXO:
                names.append(name)
    return names


def _decode(name: str, value: bytes) -> bytes:
    if b"-----BEGIN" in value:
        return value
    try:
        return base64.b64decode(b"".join(value.split()), validate=True)
    except binascii.Error:
        raise UnusableKey(f"{name} is not base64") from None


@functools.lru_cache(maxsize=8)  # loading checks the key, which takes some 30 ms
def _parse(name: str, pem: bytes) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableKey(f"{name} does not hold an unencrypted private key in PEM form") from None
    if not isinstance(key, RSAPrivateKey):
        raise UnusableKey(f"{name} is not an RSA key, which GitHub Apps need")
    return key
