"""Secrets in output, replaced before anything is stored."""

from __future__ import annotations

import re

MASK = b"[masked]"
_KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(rb"-----END [A-Z0-9 ]*PRIVATE KEY-----")
_TOKENS = re.compile(
    rb"gh[pousr]_[A-Za-z0-9_.\-]{16,}"  # GitHub, every kind; since 2026 installation tokens hold a JWT
    rb"|github_pat_[A-Za-z0-9_]{16,}"
    rb"|\blw_[A-Za-z0-9_\-]{16,}"
    rb"|\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"  # a JWT
)
_AUTHORIZATION = re.compile(
    rb"(?i)(\bbearer[ \t]+|authorization[\"']?\s*[:=]\s*[\"']?(?:basic|token|bearer)[ \t]+)([A-Za-z0-9._~+/=\-]{8,})"
)
_IN_URL = re.compile(rb"(://[^/\s:@]{0,64}:)[^@\s/]{4,}@")
_HINTS = (b"gh", b"lw_", b"eyJ", b"://")
_WORDS = re.compile(rb"(?i)bearer|authorization")


class Masker:
    """Masks what looks like a secret, and the values that it was told; remembers a private key across pieces."""

    def __init__(self, secrets: list[bytes]) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        longest_first = sorted((line for line in lines if len(line) >= 8), key=len, reverse=True)
        self._values = re.compile(b"|".join(map(re.escape, longest_first))) if longest_first else None
        self._in_key = False

    def mask(self, data: bytes) -> bytes:
        """The data without its secrets."""
        if self._in_key or b"PRIVATE KEY-----" in data:
            data = self._without_keys(data)
        if self._values:
            data = self._values.sub(MASK, data)
        if any(hint in data for hint in _HINTS):
            data = _IN_URL.sub(rb"\1" + MASK + b"@", _TOKENS.sub(MASK, data))
        if _WORDS.search(data):
            data = _AUTHORIZATION.sub(rb"\1" + MASK, data)
        return data

    def _without_keys(self, data: bytes) -> bytes:
        kept = b""
        while data:
            if self._in_key:
                end = _KEY_ENDS.search(data)
                self._in_key = end is None
                data = data[end.end() :] if end else b""
            else:
                begin = _KEY_BEGINS.search(data)
                kept += data[: begin.start()] + MASK if begin else data
                self._in_key = begin is not None
                data = data[begin.end() :] if begin else b""
        return kept
