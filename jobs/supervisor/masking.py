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
_HINTS = (b"gh", b"github_pat_", b"lw_", b"eyJ", b"://", b"v1.")
_WORDS = re.compile(rb"(?i)bearer|authorization")
_WORD = re.compile(rb"\S+")
_ALPHANUMERIC = re.compile(rb"[A-Za-z0-9]")
_KEY_BEGUN = re.compile(rb"(?:-{1,4}|-----[A-Z0-9 ]*-{0,5})\Z")
# How many words before the end one of these makes a secret of what follows it.
_ANNOUNCED = ((b"authorization", 4), (b"bearer", 2))
_LOOKED_BACK = 8192
# Shorter values are words that would be masked everywhere.
_SHORTEST = 8


class Masker:
    """Masks what looks like a secret, and the values that it was told; remembers a private key across pieces."""

    def __init__(self, secrets: list[bytes]) -> None:
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        self._secrets = longest_first = sorted(
            (line for line in lines if len(line) >= _SHORTEST), key=len, reverse=True
        )
        self._values = re.compile(b"|".join(map(re.escape, longest_first))) if longest_first else None
        self._in_key = 0  # bytes that a key may still take

    def mask(self, data: bytes) -> bytes:
        """The data without its secrets."""
        if self._in_key or b"PRIVATE KEY" in data:
            data = self._without_keys(data)
        if self._values:
            data = self._values.sub(MASK, data)
        if any(hint in data for hint in _HINTS):
            data = _IN_URL.sub(rb"\1" + MASK + b"@", _TOKENS.sub(MASK, data))
        if _WORDS.search(data):
            data = _AUTHORIZATION.sub(rb"\1" + MASK, data)
        return data

    def safe_length(self, data: bytes) -> int:
        """How much of the data can be masked now: what may be a part of a secret, or of a character, must wait."""
        tail_at = max(0, len(data) - _LOOKED_BACK)
        begun = _begun(data[tail_at:])
        if begun == 0 and tail_at:
            return 0
        safe = len(data) if begun is None else tail_at + begun
        return self._outside(data, safe)

    def cut_within(self, data: bytes) -> int:
        """Where to cut data that is one endless word: not within a secret, nor within a character."""
        return self._outside(data, len(data) - _LOOKED_BACK) or len(data)

    def _outside(self, data: bytes, cut: int) -> int:
        """The cut, moved ahead of the secret or the character that it would split."""
        cut = min([cut, *(len(data) - _begun_at_end(data, secret) for secret in self._secrets)])
        patterns = [self._values] if self._values else []
        patterns += [_TOKENS, _IN_URL] if any(hint in data for hint in _HINTS) else []
        patterns += [_AUTHORIZATION] if _WORDS.search(data) else []
        for pattern in patterns:
            for found in pattern.finditer(data):
                if found.start() < cut < found.end():
                    cut = found.start()
        return cut - _cut_character(data[:cut])

    def _without_keys(self, data: bytes) -> bytes:
        kept = b""
        while data:
            if self._in_key:
                end = _KEY_ENDS.search(data[: self._in_key])
                used = end.end() if end else min(len(data), self._in_key)
                self._in_key = 0 if end else self._in_key - used
                data = data[used:]
            else:
                begin = _KEY_BEGINS.search(data)
                kept += data[: begin.start()] + MASK if begin else data
                self._in_key = _KEY_AT_MOST if begin else 0
                data = data[begin.end() :] if begin else b""
        return kept


def _begun(data: bytes) -> int | None:
    """Where something begins that may become a secret: the last word, or what announces one."""
    words = list(_WORD.finditer(data))
    starts = []
    for announcing, reach in _ANNOUNCED:
        starts += [word.start() for word in words[-reach:] if announcing in word[0].lower()]
    if words and words[-1].end() == len(data) and _ALPHANUMERIC.search(words[-1][0]):
        starts.append(words[-1].start())
    key = _KEY_BEGUN.search(data)
    if key:
        starts.append(key.start())
    return min(starts, default=None)


def _begun_at_end(data: bytes, secret: bytes) -> int:
    """The length of the longest beginning of the secret that the data ends with."""
    at = data.find(secret[:_SHORTEST], max(0, len(data) - len(secret) + 1))
    while at >= 0:
        if secret.startswith(data[at:]):
            return len(data) - at
        at = data.find(secret[:_SHORTEST], at + 1)
    return next((length for length in range(_SHORTEST - 1, 0, -1) if data.endswith(secret[:length])), 0)


def _cut_character(data: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character that is not whole yet."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if needed > back else 0
        if byte < 0x80:
            break
    return 0
