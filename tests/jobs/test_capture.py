"""A run's output on disk: head and tail kept, every offset valid, memory bounded."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
from django.conf import LazySettings

from jobs import supervisor
from jobs.execution import output, output_files

PARENT = str(pathlib.Path(supervisor.__path__[0]))
sys.path.insert(0, PARENT)

from capture import Capture  # type: ignore[import-not-found]  # noqa: E402

pytestmark = pytest.mark.sqlite("runs' output in files; tests/postgres/test_output.py has it in the database")
RUN = 7


@pytest.fixture
def state(tmp_path: pathlib.Path, settings: LazySettings) -> pathlib.Path:
    settings.STATE_DIR = tmp_path
    return tmp_path


def write(lines: int, limit: int, width: int = 99) -> bytes:
    """Numbered lines, written in odd pieces; returns all of them."""
    data = b"".join(f"{number:0{width}d}\n".encode() for number in range(lines))
    capture = Capture(str(output_files.output_path(RUN)), limit, [])
    for at in range(0, len(data), 777):
        capture.write(data[at : at + 777])
    capture.close()
    assert capture.size == len(data)
    return data


def test_output_below_its_limit_is_kept_as_it_is(state: pathlib.Path) -> None:
    data = write(100, 100_000)
    assert b"".join(output.whole(RUN)) == data
    assert output.read(RUN, 250, 100).data == data[250:350]


def test_over_its_limit_head_and_tail_are_kept_and_the_middle_is_marked(state: pathlib.Path) -> None:
    data = write(10_000, 100_000)
    assert output.size_on_disk(RUN) <= 100_000
    text = b"".join(output.whole(RUN))
    left_out = len(data) - output.size_on_disk(RUN)
    assert text.startswith(data[:50_000])
    assert text.endswith(data[-25_000:])
    assert f"\n[{left_out} bytes left out]\n".encode() in text


def test_every_offset_of_what_is_kept_gives_the_bytes_that_were_there(state: pathlib.Path) -> None:
    data = write(10_000, 100_000)
    for offset in (0, 1, 49_999, 50_000, 50_001, 500_000, len(data) - 25_001, len(data) - 1, len(data)):
        chunk = output.read(RUN, offset, 4096)
        at = offset + chunk.skipped
        assert chunk.data == data[at : at + len(chunk.data)]
        assert chunk.next_offset == at + len(chunk.data)
        assert bool(chunk.data) == (offset < len(data))


def test_no_character_is_cut_between_head_and_segments(state: pathlib.Path) -> None:
    text = "ä🦞€x" * 20_000 + "\n"
    capture = Capture(str(output_files.output_path(RUN)), 10_000, [])
    for piece in range(0, len(text), 1000):
        capture.write(text[piece : piece + 1000].encode())
    capture.close()
    for path in output_files.output_path(RUN).parent.iterdir():
        assert "\ufffd" not in path.read_bytes().decode()


def test_the_last_200_lines_are_marked_as_cut(state: pathlib.Path) -> None:
    write(1000, 10 * 2**20)
    lines = output.last_lines(RUN).split("\n")
    assert lines[0] == "[truncated to last 200 lines]"
    assert [int(line) for line in lines[1:]] == list(range(800, 1000))


def test_a_full_disk_is_told_and_raises_nothing(state: pathlib.Path) -> None:
    path = output_files.output_path(RUN)
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/full")
    capture = Capture(str(path), 1000, [])
    capture.write(b"a line\n")
    assert capture.failure == "No space left on device"
    capture.write(b"another\n")
    capture.close()


PROGRAM = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from capture import Capture
capture = Capture(sys.argv[2], 10 * 2**20, [b"a-secret-value"])
piece = sys.argv[4].encode().decode("unicode_escape").encode() * (65536 // 64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(int(sys.argv[3]) // len(piece)):
    capture.write(piece)
capture.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("line", ["x" * 63 + "\\n", "x" * 64], ids=["lines", "one line without end"])
@pytest.mark.parametrize(
    "size", [pytest.param(64 * 2**20, id="64 MB"), pytest.param(2**30, id="1 GB", marks=pytest.mark.soak)]
)
def test_a_flood_of_output_takes_no_memory(state: pathlib.Path, size: int, line: str) -> None:
    path = output_files.output_path(RUN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, PARENT, str(path), str(size), line], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 8 * 1024, "kilobytes more"
    assert output.size_on_disk(RUN) <= 10 * 2**20
