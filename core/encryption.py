"""Encryption at rest, with keys made from the secret key; what a rotated secret key encrypted can still be read."""

from __future__ import annotations

import base64
import functools
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet


def encrypt(text: str, *, purpose: str) -> str:
    """Return the text, encrypted with the key of a purpose."""
    return _fernet_of(_secret_keys(), purpose).encrypt(text.encode()).decode()


def decrypt(encrypted: str, *, purpose: str) -> str | None:
    """Return the text; None when the secret key that encrypted it is gone."""
    return _decrypt(_secret_keys(), encrypted, purpose)


def encrypt_anew(rows: QuerySet[Any], *, purpose: str) -> None:
    """Encrypt with the present secret key what an earlier one encrypted, in the column `encrypted` of these rows.

    After that the earlier key can be left out of the settings.
    """
    present, *earlier = _secret_keys()
    if not earlier:
        return
    with transaction.atomic():
        for pk, encrypted in rows.values_list("pk", "encrypted"):
            text = decrypt(encrypted, purpose=purpose)
            if text is not None and _decrypt((present,), encrypted, purpose) is None:
                rows.filter(pk=pk).update(encrypted=encrypt(text, purpose=purpose))


def _decrypt(secret_keys: tuple[str, ...], encrypted: str, purpose: str) -> str | None:
    try:
        return _fernet_of(secret_keys, purpose).decrypt(encrypted.encode()).decode()
    except InvalidToken:
        return None


def _secret_keys() -> tuple[str, ...]:
    return (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


@functools.lru_cache(maxsize=8)
def _fernet_of(secret_keys: tuple[str, ...], purpose: str) -> MultiFernet:
    return MultiFernet([Fernet(_key(secret, purpose)) for secret in secret_keys])


def _key(secret: str, purpose: str) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret.encode())
    return base64.urlsafe_b64encode(derived)
