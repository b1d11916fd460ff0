"""The output of runs in this machine's files, as jobs/supervisor/capture.py writes it."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from django.conf import settings

RUNS_PER_FOLDER = 1000


@dataclass(frozen=True)
class Chunk:
    """A piece of output. `skipped` bytes before it were left out, because the output was over its limit."""

    data: bytes
    skipped: int
    next_offset: int


def output_path(run_id: int) -> pathlib.Path:
    return settings.STATE_DIR / "runs" / str(run_id // RUNS_PER_FOLDER) / f"{run_id}.log"


def result_path(run_id: int) -> pathlib.Path:
    """Return the file in which the run's supervisor leaves how it ended, until the daemon has recorded it."""
    return output_path(run_id).with_suffix(".result")


def read(run_id: int, offset: int = 0, limit: int = 65536) -> Chunk:
    """Return output from an offset of the stream on; empty when there is none yet."""
    skipped = 0
    for start, path in parts(run_id):
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


def tail(run_id: int, budget: int) -> tuple[bytes, bool]:
    """Return the last bytes of what was kept, at most `budget`, and whether there was more before them."""
    data = b""
    cut = False
    for start, path in reversed(parts(run_id)):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            size = file.seek(0, 2)
            wanted = min(size, budget - len(data))
            file.seek(size - wanted)
            data = file.read(wanted) + data
            cut = cut or wanted < size or start > 0
        if len(data) >= budget:
            break
    return data, cut


def tails(run_ids: Sequence[int], budget: int) -> dict[int, bytes]:
    """Return the last bytes of each run's output, at most `budget`."""
    return {run_id: tail(run_id, budget)[0] for run_id in run_ids}


def end(run_id: int) -> int:
    """Return the offset up to which the stream has been written, in bytes."""
    for start, path in reversed(parts(run_id)):
        with contextlib.suppress(FileNotFoundError):
            return start + path.stat().st_size
    return 0


@contextlib.contextmanager
def growth(run_id: int) -> Iterator[Callable[[], bool]]:
    """Give what says whether the run has printed since, at the cost of the sizes of two files.

    One of them grows at least once a second while it prints: its newest part, or the times.
    """
    files = [parts(run_id)[-1][1], _times_path(run_id)]
    before = [_size(path) for path in files]
    yield lambda: [_size(path) for path in files] != before


def size_on_disk(run_id: int) -> int:
    """Return the bytes that the run's output takes."""
    total = 0
    for _, path in parts(run_id):
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


def write(run_id: int, pieces: Iterable[tuple[int, bytes]], times: Iterable[tuple[int, int]]) -> None:
    """Write pieces of output, each with where it begins, and the times as `times` reads them; what was there goes."""
    delete(run_id)
    head = output_path(run_id)
    head.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, end = head, 0
    head.touch(mode=0o600)
    for begin, data in pieces:
        if begin != end:  # what was between was left out
            path = head.with_name(f"{head.name}.{begin}")
        with path.open("ab") as file:
            file.write(data)
        end = begin + len(data)
    _times_path(run_id).write_text("".join(f"{begin} {second}\n" for begin, second in times))


def delete(run_id: int) -> None:
    """Remove all files of the run; none need exist."""
    for _, path in parts(run_id):
        path.unlink(missing_ok=True)
    for path in (_times_path(run_id), result_path(run_id), result_path(run_id).with_suffix(".result.new")):
        path.unlink(missing_ok=True)


def delete_results() -> None:
    """Remove what supervisors left of how their runs ended; for when all that is recorded and none is running."""
    for pattern in ("*.result", "*.result.new"):
        for path in (settings.STATE_DIR / "runs").glob(f"*/{pattern}"):
            with contextlib.suppress(OSError):  # it does no harm, and the next start tries again
                path.unlink()


def sizes_by_run() -> dict[int, int]:
    """Return the bytes on disk of each run that has any file."""
    sizes: dict[int, int] = {}
    for folder in folders():
        for entry in os.scandir(folder):
            number = entry.name.partition(".")[0]
            if number.isdigit():
                with contextlib.suppress(FileNotFoundError):
                    sizes[int(number)] = sizes.get(int(number), 0) + entry.stat().st_size
    return sizes


def folders() -> list[pathlib.Path]:
    """Return the folders of the runs' files."""
    root = settings.STATE_DIR / "runs"
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _times_path(run_id: int) -> pathlib.Path:
    head = output_path(run_id)
    return head.with_name(f"{head.name}.times")


def parts(run_id: int) -> list[tuple[int, pathlib.Path]]:
    """Return head and segments with where each begins in the stream."""
    head = output_path(run_id)
    segments = ((path.suffix[1:], path) for path in head.parent.glob(f"{head.name}.*"))
    return sorted([(0, head), *((int(start), path) for start, path in segments if start.isdigit())])
