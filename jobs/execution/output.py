"""A run's output, read back: by offset while it grows, by line, or whole.

It is kept in files of this machine (output_files.py), or, on PostgreSQL, in the database (output_pieces.py).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from core.database.backend import is_postgres
from jobs.execution import output_files, output_pieces
from jobs.execution.output_files import Chunk
from jobs.models import JobRun

LINES_SHOWN = 200
_LINE_BYTES = 1000
_TEXT_BYTES = 256 * 1024


class _Store(Protocol):
    """Where output is kept."""

    def read(self, run_id: int, offset: int = 0, limit: int = 65536) -> Chunk: ...
    def tail(self, run_id: int, budget: int) -> tuple[bytes, bool]: ...
    def tails(self, run_ids: Sequence[int], budget: int) -> dict[int, bytes]: ...
    def end(self, run_id: int) -> int: ...
    def growth(self, run_id: int) -> AbstractContextManager[Callable[[], bool]]: ...
    def size_on_disk(self, run_id: int) -> int: ...
    def times(self, run_id: int) -> list[tuple[int, int]]: ...
    def delete(self, run_id: int) -> None: ...
    def sizes_by_run(self) -> dict[int, int]: ...


@dataclass(frozen=True)
class Text:
    """A piece of output as text; `complete` when the run is over and nothing follows."""

    text: str
    skipped: int
    next_offset: int
    complete: bool


def read(run_id: int, offset: int = 0, limit: int = 65536) -> Chunk:
    """Return output from an offset of the stream on; empty when there is none yet."""
    return _store().read(run_id, offset, limit)


def whole(run_id: int, offset: int = 0) -> Iterator[bytes]:
    """Return all that was kept, in pieces; what was left out is said in a line."""
    while True:
        chunk = read(run_id, offset)
        if chunk.skipped:
            yield f"\n[{chunk.skipped} bytes left out]\n".encode()
        if not chunk.data:
            return
        yield chunk.data
        offset = chunk.next_offset


def read_text(run: JobRun, offset: int) -> Text:
    """Return output from an offset on; a character that is cut at the end is left to the rest."""
    chunk = read(run.pk, offset, _TEXT_BYTES)
    complete = not run.is_active and chunk.next_offset >= end(run.pk)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(chunk.data, final=complete)
    return Text(text, chunk.skipped, chunk.next_offset - len(decoder.getstate()[0]), complete)


def tail(run_id: int, budget: int) -> tuple[bytes, bool]:
    """Return the last bytes of what was kept, at most `budget`, and whether there was more before them."""
    return _store().tail(run_id, budget)


def tails(run_ids: Sequence[int], budget: int) -> dict[int, bytes]:
    """Return the last bytes of each run's output, at most `budget`; runs without any may be left out."""
    return _store().tails(run_ids, budget)


def last_lines(run_id: int) -> str:
    """Return the last 200 lines, as the contract's `last_output` has them; lines are cut at 1,000 bytes on average."""
    data, cut = tail(run_id, LINES_SHOWN * _LINE_BYTES)
    lines = data.decode(errors="replace").rstrip("\n").split("\n")
    if len(lines) <= LINES_SHOWN and not cut:
        return "\n".join(lines)
    return "\n".join([f"[truncated to last {LINES_SHOWN} lines]", *lines[-LINES_SHOWN:]])


def end(run_id: int) -> int:
    """Return the offset up to which the stream has been written, in bytes."""
    return _store().end(run_id)


def growth(run_id: int) -> AbstractContextManager[Callable[[], bool]]:
    """Watch a run; give what says whether it has printed since. It may be asked often."""
    return _store().growth(run_id)


def size_on_disk(run_id: int) -> int:
    """Return the bytes that the run's output takes."""
    return _store().size_on_disk(run_id)


def times(run_id: int) -> list[tuple[int, int]]:
    """Return where the output of each second begins, with the time in seconds since 1970; empty where not noted."""
    return _store().times(run_id)


def delete(run_id: int) -> None:
    """Remove the output of the run, and whatever this machine has of it."""
    _store().delete(run_id)
    output_files.delete(run_id)


def sizes_by_run() -> dict[int, int]:
    """Return the bytes that the output of each run takes, of those that have any."""
    return _store().sizes_by_run()


def _store() -> _Store:
    return output_pieces if is_postgres() else output_files
