"""The output of runs in the database, in pieces, so that every machine has it; output_shipping.py writes it."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from django.db import close_old_connections, connection
from django.db.models import BinaryField, F, Max, OuterRef, SmallIntegerField, Subquery, Sum
from django.db.models.functions import Cast, Greatest, Substr

from core.database.watcher import watcher
from jobs.execution.output_files import Chunk
from jobs.models import OutputPiece

PIECE_BYTES = 65536
_READ_AT_ONCE = 64


def read(run_id: int, offset: int = 0, limit: int = 65536) -> Chunk:
    """Return output from an offset of the stream on; empty when there is none yet."""
    data, start = b"", offset
    pieces = OutputPiece.objects.filter(run=run_id, end__gt=offset).order_by("offset")
    for begins, piece in pieces.values_list("offset", "data")[:_READ_AT_ONCE]:
        if not data:
            start = max(offset, begins)
        elif begins != start + len(data):  # what follows is after a gap
            break
        data += bytes(piece)[max(0, start - begins) if not data else 0 :]
        if len(data) >= limit:
            break
    data = data[:limit]
    return Chunk(data, start - offset, start + len(data))


def tail(run_id: int, budget: int) -> tuple[bytes, bool]:
    """Return the last bytes of what was kept, at most `budget`, and whether there was more before them."""
    data, before = b"", end(run_id)
    printed = before
    while len(data) < budget:
        pieces = OutputPiece.objects.filter(run=run_id, offset__lt=before).order_by("-offset")
        rows = list(pieces.values_list("offset", "data")[:_READ_AT_ONCE])
        if not rows:
            break
        data = b"".join(bytes(piece) for _, piece in reversed(rows)) + data
        before = rows[-1][0]
    data = data[max(0, len(data) - budget) :]
    return data, len(data) < printed


def tails(run_ids: Sequence[int], budget: int) -> dict[int, bytes]:
    """Return the last bytes of each run's output, at most `budget`, by one query; runs without any are left out."""
    newest = OutputPiece.objects.filter(run=OuterRef("run")).order_by("-offset").values("end")[:1]
    # The backend's small integers have the 32 bits that substring() takes.
    start = Cast(Greatest(F("end") - F("offset") - budget + 1, 1), SmallIntegerField())
    last_bytes = Substr("data", start, output_field=BinaryField())
    pieces = OutputPiece.objects.filter(run__in=run_ids, end__gt=Subquery(newest) - budget).order_by("run", "offset")
    data: dict[int, bytes] = {}
    for run_id, piece in pieces.values_list("run", last_bytes) if run_ids else ():
        data[run_id] = (data.get(run_id, b"") + bytes(piece))[-budget:]
    return data


def end(run_id: int) -> int:
    """Return the offset up to which the stream has been written, in bytes."""
    newest = OutputPiece.objects.filter(run=run_id).order_by("-offset")
    return newest.values_list("end", flat=True).first() or 0


@contextlib.contextmanager
def growth(run_id: int) -> Iterator[Callable[[], bool]]:
    """Give what says whether the run has printed since, at no cost: this process looks at commits for all who wait."""
    before = end(run_id)
    with _readers_of_process(str(connection.settings_dict["NAME"]), os.getpid()).waiting(run_id, before) as latest:
        yield lambda: latest() != before


def size_on_disk(run_id: int) -> int:
    """Return the bytes that the run's output takes."""
    total: int | None = OutputPiece.objects.filter(run=run_id).aggregate(total=Sum(F("end") - F("offset")))["total"]
    return total or 0


def times(run_id: int) -> list[tuple[int, int]]:
    """Return where the output of each second begins, with the time in seconds since 1970; empty where not noted."""
    rows = OutputPiece.objects.filter(run=run_id).order_by("offset").values_list("times", flat=True)
    return [(begins, second) for pairs in rows for begins, second in pairs]


def each(run_id: int) -> Iterator[tuple[int, bytes]]:
    """Yield the pieces of the run's output, each with where it begins in the stream."""
    pieces = OutputPiece.objects.filter(run=run_id).order_by("offset").values_list("offset", "data")
    yield from ((begins, bytes(data)) for begins, data in pieces.iterator(chunk_size=_READ_AT_ONCE))


def delete(run_id: int) -> None:
    """Remove the output of the run."""
    OutputPiece.objects.filter(run=run_id).delete()


def sizes_by_run() -> dict[int, int]:
    """Return the bytes of each run that has output."""
    totals = OutputPiece.objects.order_by().values("run").annotate(total=Sum(F("end") - F("offset")))
    return dict(totals.values_list("run", "total"))


class GrowthReaders:
    """Those of this process who wait for runs to print more: one look after a commit serves them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Counter[int] = Counter()
        self._ends: dict[int, int] = {}

    @contextlib.contextmanager
    def waiting(self, run_id: int, end: int) -> Iterator[Callable[[], int]]:
        """Watch a run that has printed so far; give what says how far it is."""
        with self._lock:
            self._waiting[run_id] += 1
            self._ends[run_id] = max(end, self._ends.get(run_id, 0))
        watcher().watch_for(self)
        try:
            yield lambda: self._ends.get(run_id, end)
        finally:
            with self._lock:
                self._waiting[run_id] -= 1
                if not self._waiting[run_id]:
                    del self._waiting[run_id], self._ends[run_id]

    def is_empty(self) -> bool:
        return not self._waiting

    def look(self) -> None:
        """Look how far the runs are; raises DatabaseError."""
        with self._lock:
            wanted = list(self._waiting)
        close_old_connections()
        ends = OutputPiece.objects.filter(run__in=wanted).order_by().values("run").annotate(latest=Max("end"))
        for run_id, latest in ends.values_list("run", "latest"):
            with self._lock:
                if run_id in self._ends:
                    self._ends[run_id] = latest

    def close(self) -> None:
        """Do nothing: who waits here is a reader of events as well, and goes as one."""


@functools.cache
def _readers_of_process(database: str, process: int) -> GrowthReaders:
    return GrowthReaders()
