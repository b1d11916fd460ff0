"""A piece of output, as it is read from wherever it is kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """A piece of output. `skipped` bytes before it were left out, because the output was over its limit."""

    data: bytes
    skipped: int
    next_offset: int
