"""Tokens at rest: encrypted with a key made from the secret key; those of a rotated secret key can still be read."""

from __future__ import annotations

import base64
import functools
import hashlib

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


def seal(token: str) -> str:
    """The token, encrypted."""
    return _box().encrypt(token.encode()).decode()


def unseal(sealed: str) -> str | None:
    """The token; None when the secret key that sealed it is gone."""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        return None


def fingerprint(token: str) -> str:
    """base64(SHA-256(token)), which GitHub's audit log shows as `hashed_token`."""
    return base64.b64encode(hashlib.sha256(token.encode()).digest()).decode()


def _box() -> MultiFernet:
    return _box_of((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@functools.lru_cache(maxsize=4)
def _box_of(secrets: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(_key(secret)) for secret in secrets])


def _key(secret: str) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"lobwife broker tokens").derive(secret.encode())
    return base64.urlsafe_b64encode(derived)
