"""Tokens at rest: encrypted with a key made from the secret key; those of a rotated secret key can still be read."""

from __future__ import annotations

import base64
import functools
import hashlib

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


def encrypt(token: str) -> str:
    """Return the token, encrypted."""
    return _fernet().encrypt(token.encode()).decode()


def decrypt(encrypted: str) -> str | None:
    """Return the token; None when the secret key that encrypted it is gone."""
    try:
        return _fernet().decrypt(encrypted.encode()).decode()
    except InvalidToken:
        return None


def fingerprint(token: str) -> str:
    """Return base64(SHA-256(token)), which GitHub's audit log shows as `hashed_token`."""
    return base64.b64encode(hashlib.sha256(token.encode()).digest()).decode()


def _fernet() -> MultiFernet:
    return _fernet_of((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@functools.lru_cache(maxsize=4)
def _fernet_of(secrets: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(_key(secret)) for secret in secrets])


def _key(secret: str) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"lobwife broker tokens").derive(secret.encode())
    return base64.urlsafe_b64encode(derived)
