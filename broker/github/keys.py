"""The App's private keys: one, or two while they are rotated. Read when needed: a replaced file takes effect."""

from __future__ import annotations

import base64
import binascii
import functools
import os
import pathlib
import stat

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from core import env

_VARIABLES = ("GH_APP_PEM", "GH_APP_PEM_2")


class UnusableKey(Exception):
    """A key is configured and can't be used; the sentence says which and why, never what it is."""


def private_keys() -> list[RSAPrivateKey]:
    """The keys in the order in which they are tried; empty when none is configured. Raises UnusableKey.

    A second key that can't be used does not stop the first from working.
    """
    keys: list[RSAPrivateKey] = []
    troubles: list[UnusableKey] = []
    for variable in _VARIABLES:
        try:
            pem = _pem(variable)
            if pem is not None:
                keys.append(_parse(variable, pem))
        except UnusableKey as trouble:
            troubles.append(trouble)
    if troubles and not keys:
        raise troubles[0]
    return keys


def _pem(variable: str) -> bytes | None:
    """The PEM from `X` (base64), `X_FILE` (a file with the same) or `X_PATH` (the key file)."""
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
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IRWXO:
                raise UnusableKey(f"the file of {name} is open to every user of this machine: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise UnusableKey(f"the file of {name} can't be read: {error.strerror}") from None


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
