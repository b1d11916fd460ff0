"""Passwords of in-process tests, hashed as ever but not for a third of a second."""

from __future__ import annotations

from access.authentication import PBKDF2PasswordHasher


class QuickPBKDF2PasswordHasher(PBKDF2PasswordHasher):
    iterations = 1000
