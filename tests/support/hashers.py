"""Passwords of in-process tests, hashed as ever but not for a third of a second."""

from __future__ import annotations

from access import hashers


class QuickPBKDF2PasswordHasher(hashers.PBKDF2PasswordHasher):
    iterations = 1000
