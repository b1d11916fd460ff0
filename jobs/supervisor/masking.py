"""Secrets in output, replaced before anything is stored."""

from __future__ import annotations

import re

MASK = b"[masked]"
_KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS = re.compile(rb"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")
# The largest key anyone uses is shorter; a script that prints only a first line does not lose all the rest.
_KEY_AT_MOST = 16384
_TOKENS = re.compile(
    rb"gh[pousr]_[A-Za-z0-9_.\-]{16,}"  # GitHub, every kind; since 2026 installation tokens hold a JWT
    rb"|github_pat_[A-Za-z0-9_]{16,}"
    rb"|\bv1\.[0-9a-f]{40}\b"  # GitHub's installation tokens before 2021, which its Enterprise Server may still give
    rb"|\blw_[A-Za-z0-9_\-]{16,}"
    rb"|\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"  # a JWT
)
_AUTHORIZATION = re.compile(
    rb"(?i)(\bbearer[ \t]+|authorization[\"']?\s*[:=]\s*[\"']?(?:basic|token|bearer)[ \t]+)([A-Za-z0-9._~+/=\-]{8,})"
)
_IN_URL = re.compile(rb"(://[^/\s:@]{0,64}:)[^@\s/]{4,}@")
# One of these is in whatever _TOKENS and _IN_URL match, and in what _AUTHORIZATION does: cheaper than the expressions.
_TOKEN_HINTS = (b"gh", b"github_pat_", b"lw_", b"eyJ", b"://", b"v1.")
_AUTHORIZATION_HINTS = (b"bearer", b"authorization")
_LONGEST = 8192
# Shorter values are words that would be masked everywhere.
_SHORTEST = 8


class Masker:
    """Masks what looks like a secret, and the values that it is given; remembers a private key across lines."""

    def __init__(self, secrets: list[bytes]) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        values = sorted((line for line in lines if len(line) >= _SHORTEST), key=len, reverse=True)
        self._values = re.compile(b"|".join(map(re.escape, values))) if values else None
        self._in_key = 0  # bytes that a key may still take

    def mask(self, data: bytes) -> bytes:
        """Return whole lines without their secrets."""
        if self._in_key or b"PRIVATE KEY" in data:
            data = self._without_keys(data)
        for pattern, replacement in self._patterns(data):
            data = pattern.sub(replacement, data)
        return data

    def cut_within(self, data: bytes) -> int:
        """Return where to cut a line that does not end: well before its end, and in no secret."""
        cut = len(data) - _LONGEST
        for pattern in (_KEY_BEGINS, _KEY_ENDS, *(pattern for pattern, _ in self._patterns(data))):
            for secret in pattern.finditer(data):
                if secret.start() < cut < secret.end():
                    cut = secret.start()
        return cut or len(data)

    def _patterns(self, data: bytes) -> list[tuple[re.Pattern[bytes], bytes]]:
        """Return the expressions that may match somewhere in the data, each with what replaces a match."""
        patterns = [(self._values, MASK)] if self._values else []
        if any(hint in data for hint in _TOKEN_HINTS):
            patterns += [(_TOKENS, MASK), (_IN_URL, rb"\1" + MASK + b"@")]
        lowered = data.lower()
        if any(hint in lowered for hint in _AUTHORIZATION_HINTS):
            patterns.append((_AUTHORIZATION, rb"\1" + MASK))
        return patterns

    def _without_keys(self, data: bytes) -> bytes:
        rest = b""
        while data:
            if self._in_key:
                end = _KEY_ENDS.search(data[: self._in_key])
                used = end.end() if end else min(len(data), self._in_key)
                self._in_key = 0 if end else self._in_key - used
                data = data[used:]
            else:
                begin = _KEY_BEGINS.search(data)
                rest += data[: begin.start()] + MASK if begin else data
                self._in_key = _KEY_AT_MOST if begin else 0
                data = data[begin.end() :] if begin else b""
        return rest
