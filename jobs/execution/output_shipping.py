"""Shipping: the output of this node's runs goes from its files to the database, in pieces, while it is written."""

from __future__ import annotations

import contextlib
import logging
import time
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.db import transaction

from core.database.backend import is_postgres
from jobs.execution import output_files, output_pieces
from jobs.models import JobRun, OutputPiece, State

log = logging.getLogger(__name__)
_EVERY_SECONDS = 0.5
_MOST_BYTES = 2**20  # of a run, in one transaction


class Shipper:
    """Brings output to where it is read, and lets go of what is left here."""

    def ship(self, run_ids: Collection[int]) -> None:
        """Bring what runs printed since, from time to time; raises DatabaseError."""

    def ship_rest(self, run_id: int) -> None:
        """Bring all that a run printed: it ended. Raises DatabaseError."""

    def take_in(self, run_id: int) -> None:
        """Bring all that the files have of a run, whatever its state: they were not written by a runner."""

    def let_go(self, run_id: int) -> None:
        """Remove what is needed no longer of a run whose end is recorded."""

    def tidy(self) -> None:
        """Bring what is still missing of runs that are over, then remove what is left of them here."""


def shipper() -> Shipper:
    """Return what brings output to where `output` reads it."""
    return ToDatabase() if is_postgres() else InPlace()


class InPlace(Shipper):
    """Output stays in the files: they are where it is read."""

    def let_go(self, run_id: int) -> None:
        with contextlib.suppress(OSError):
            output_files.result_path(run_id).unlink(missing_ok=True)

    def tidy(self) -> None:
        output_files.delete_results()
        for run_id in output_pieces.sizes_by_run():  # of an installation that was moved here from PostgreSQL
            try:
                output_files.write(run_id, output_pieces.each(run_id), output_pieces.times(run_id))
            except OSError as error:
                log.error("the output of run %s can't be written; the next start tries again: %s", run_id, error)
            else:
                output_pieces.delete(run_id)


@dataclass
class _Shipped:
    """How far a run's output is in the database, and where the oldest kept segment after its head began."""

    offset: int
    segments_from: int = 0


class ToDatabase(Shipper):
    """Output goes to the database at most twice a second; a run that was settled by others gets no more."""

    def __init__(self) -> None:
        self._shipped: dict[int, _Shipped] = {}
        self._last = 0.0

    def ship(self, run_ids: Collection[int]) -> None:
        now = time.monotonic()
        if now - self._last < _EVERY_SECONDS:
            return
        self._last = now
        self._write({run_id: self._new_pieces(run_id) for run_id in run_ids})

    def ship_rest(self, run_id: int) -> None:
        while pieces := self._new_pieces(run_id):
            if not self._write({run_id: pieces}):
                return

    def take_in(self, run_id: int) -> None:
        while pieces := self._new_pieces(run_id):
            if not self._write({run_id: pieces}, State.values):
                return

    def let_go(self, run_id: int) -> None:
        self._shipped.pop(run_id, None)
        with contextlib.suppress(OSError):
            output_files.delete(run_id)

    def tidy(self) -> None:
        run_ids = list(output_files.sizes_by_run())
        running = set(JobRun.objects.filter(pk__in=run_ids, state=State.RUNNING).values_list("pk", flat=True))
        for run_id in run_ids:
            if run_id not in running:
                self.take_in(run_id)  # an installation that was moved here has all its output in files
                self.let_go(run_id)

    def _new_pieces(self, run_id: int) -> list[OutputPiece]:
        """Return what the run printed since the last piece, without the second of its times that may go on."""
        shipped = self._state_of(run_id)
        pieces: list[OutputPiece] = []
        offset, size = shipped.offset, 0
        times: list[tuple[int, int]] | None = None
        while size < _MOST_BYTES:
            chunk = output_files.read(run_id, offset, output_pieces.PIECE_BYTES)
            if not chunk.data:
                break
            times = output_files.times(run_id) if times is None else times
            begin, offset = chunk.next_offset - len(chunk.data), chunk.next_offset
            place, after = (bisect_left(times, (bound, 0)) for bound in (begin, offset))
            of_piece = times[place:after]
            if chunk.skipped and place and begin not in dict(of_piece):  # its first time is among what was left out
                of_piece.insert(0, (begin, times[place - 1][1]))
            pieces.append(OutputPiece(run_id=run_id, offset=begin, end=offset, data=chunk.data, times=of_piece))
            size += len(chunk.data)
        return pieces

    def _write(self, pieces_by_run: dict[int, list[OutputPiece]], states: Sequence[str] = (State.RUNNING,)) -> bool:
        """Store pieces of the runs that are in one of these states; return whether all are."""
        wanted = {run_id: pieces for run_id, pieces in pieces_by_run.items() if pieces}
        if not wanted:
            return True
        segments = {run_id: self._segments_from(run_id) for run_id in wanted}
        with transaction.atomic():
            taking = set(JobRun.objects.filter(pk__in=wanted, state__in=states).values_list("pk", flat=True))
            OutputPiece.objects.bulk_create(
                [piece for run_id in sorted(taking) for piece in wanted[run_id]], ignore_conflicts=True
            )
            for run_id in taking:
                head, oldest = segments[run_id]
                if oldest > self._shipped[run_id].segments_from:  # the limit had a part in the middle dropped
                    OutputPiece.objects.filter(run=run_id, offset__gte=head, end__lte=oldest).delete()
        for run_id in taking:
            self._shipped[run_id] = _Shipped(wanted[run_id][-1].end, segments[run_id][1])
        return len(taking) == len(wanted)

    def _state_of(self, run_id: int) -> _Shipped:
        if run_id not in self._shipped:
            self._shipped[run_id] = _Shipped(output_pieces.end(run_id))
        return self._shipped[run_id]

    def _segments_from(self, run_id: int) -> tuple[int, int]:
        """Return where the head ends and where the oldest segment begins that is still there; zeros without any."""
        (_, head), *segments = output_files.parts(run_id)
        if not segments:
            return 0, 0
        with contextlib.suppress(FileNotFoundError):
            return head.stat().st_size, segments[0][0]
        return 0, 0
