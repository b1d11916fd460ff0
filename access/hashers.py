"""Password hashing that keeps nobody else waiting: it takes a third of a second of a processor."""

from __future__ import annotations

from django.contrib.auth import hashers

from core.native_threads import in_native_thread


class PBKDF2PasswordHasher(hashers.PBKDF2PasswordHasher):
    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        return in_native_thread(super().encode, password, salt, iterations)
