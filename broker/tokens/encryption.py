"""Tokens at rest: encrypted, and recognised by their fingerprint."""

from __future__ import annotations

import base64
import hashlib

from core import encryption

_PURPOSE = "lobwife broker tokens"


def encrypt(token: str) -> str:
    """Return the token, encrypted."""
    return encryption.encrypt(token, purpose=_PURPOSE)


def decrypt(encrypted: str) -> str | None:
    """Return the token; None when the secret key that encrypted it is gone."""
    return encryption.decrypt(encrypted, purpose=_PURPOSE)


def fingerprint(token: str) -> str:
    """Return base64(SHA-256(token)), which GitHub's audit log shows as `hashed_token`."""
    return base64.b64encode(hashlib.sha256(token.encode()).digest()).decode()
