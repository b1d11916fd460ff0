"""A run's output, read back: by offset while it grows, by line, or whole. jobs/supervisor/capture.py writes it."""

from __future__ import annotations

import codecs
import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.conf import settings

from jobs.models import JobRun

LINES_SHOWN = 200
_LINE_BYTES = 1000
_TEXT_BYTES = 256 * 1024
RUNS_PER_FOLDER = 1000


@dataclass(frozen=True)
class Chunk:
    """A piece of output. `skipped` bytes before it were left out, because the output was over its limit."""

    data: bytes
    skipped: int
    next_offset: int


@dataclass(frozen=True)
class Text:
    """A piece of output as text; `complete` when the run is over and nothing follows."""

    text: str
    skipped: int
    next_offset: int
    complete: bool


def output_path(run_id: int) -> pathlib.Path:
    return settings.STATE_DIR / "runs" / str(run_id // RUNS_PER_FOLDER) / f"{run_id}.log"


def result_path(run_id: int) -> pathlib.Path:
    """Return the file in which the run's supervisor leaves how it ended, until the daemon has recorded it."""
    return output_path(run_id).with_suffix(".result")


def read(run_id: int, offset: int = 0, limit: int = 65536) -> Chunk:
    """Return output from an offset of the stream on; empty when there is none yet."""
    skipped = 0
    for start, path in _parts(run_id):
        with contextlib.suppress(FileNotFoundError):  # a segment may be dropped while we look
            size = path.stat().st_size
            if offset >= start + size:
                continue
            skipped = max(0, start - offset)
            with path.open("rb") as file:
                file.seek(max(0, offset - start))
                data = file.read(limit)
            return Chunk(data, skipped, max(offset, start) + len(data))
    return Chunk(b"", 0, offset)


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
    data = b""
    cut = False
    for start, path in reversed(_parts(run_id)):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            size = file.seek(0, 2)
            wanted = min(size, budget - len(data))
            file.seek(size - wanted)
            data = file.read(wanted) + data
            cut = cut or wanted < size or start > 0
        if len(data) >= budget:
            break
    return data, cut


def last_lines(run_id: int) -> str:
    """Return the last 200 lines, as the contract's `last_output` has them; lines are cut at 1,000 bytes on average."""
    data, cut = tail(run_id, LINES_SHOWN * _LINE_BYTES)
    lines = data.decode(errors="replace").rstrip("\n").split("\n")
    if len(lines) <= LINES_SHOWN and not cut:
        return "\n".join(lines)
    return "\n".join([f"[truncated to last {LINES_SHOWN} lines]", *lines[-LINES_SHOWN:]])


def end(run_id: int) -> int:
    """Return the offset up to which the stream has been written, in bytes."""
    for start, path in reversed(_parts(run_id)):
        with contextlib.suppress(FileNotFoundError):
            return start + path.stat().st_size
    return 0


def growing_files(run_id: int) -> list[pathlib.Path]:
    """Return the files of which one grows at least once a second while the run prints: its newest part, the times."""
    return [_parts(run_id)[-1][1], _times_path(run_id)]


def sizes(files: Sequence[pathlib.Path]) -> list[int]:
    """Return the sizes of files; 0 for what does not exist."""
    return [_size(path) for path in files]


def size_on_disk(run_id: int) -> int:
    """Return the bytes that the run's output takes."""
    total = 0
    for _, path in _parts(run_id):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def times(run_id: int) -> list[tuple[int, int]]:
    """Return where the output of each second begins, with the time in seconds since 1970; empty where not noted."""
    try:
        lines = _times_path(run_id).read_text().splitlines()
    except (OSError, ValueError):
        return []
    pairs = (line.split() for line in lines)
    return [(int(pair[0]), int(pair[1])) for pair in pairs if len(pair) == 2 and all(map(str.isdecimal, pair))]


def delete(run_id: int) -> None:
    """Remove all files of the run; none need exist."""
    for _, path in _parts(run_id):
        path.unlink(missing_ok=True)
    _times_path(run_id).unlink(missing_ok=True)
    result_path(run_id).unlink(missing_ok=True)


def delete_results() -> None:
    """Remove what supervisors left of how their runs ended; for when all that is recorded and none is running."""
    for pattern in ("*.result", "*.result.new"):
        for path in (settings.STATE_DIR / "runs").glob(f"*/{pattern}"):
            with contextlib.suppress(OSError):  # it does no harm, and the next start tries again
                path.unlink()


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _times_path(run_id: int) -> pathlib.Path:
    head = output_path(run_id)
    return head.with_name(f"{head.name}.times")


def _parts(run_id: int) -> list[tuple[int, pathlib.Path]]:
    """Return head and segments with where each begins in the stream."""
    head = output_path(run_id)
    segments = ((path.suffix[1:], path) for path in head.parent.glob(f"{head.name}.*"))
    return sorted([(0, head), *((int(start), path) for start, path in segments if start.isdigit())])
