"""The output of a run as numbered lines: a window of it as HTML, a search in it, its steps."""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from jobs.execution import ansi, output
from jobs.execution.output_files import Chunk

WINDOW_BYTES = 64 * 1024
WINDOW_LINES = 2000
MOST_MATCHES = 200
_LINE_MOST = 500
_CHUNK = 256 * 1024
_STEPS_MOST = 100
_BEFORE_A_LINE = 200
_GROUP, _GROUP_END = "::group::", "::endgroup::"
_STEP = re.compile(rb"^::group::([^\n]{0,200})", re.MULTILINE)
_MARKS = {"::error::": "is-error", "::warning::": "is-warning", "##[error]": "is-error"}
_ERROR_WORDS = (
    *(b"error", b"fatal", b"traceback", b"exception", b"panic", b"failed", b"failure"),
    *(b"cannot", b"can't", b"denied", b"refused"),
)
_ERROR = re.compile(rb"\b(?:%b)\b" % b"|".join(_ERROR_WORDS))


@dataclass(frozen=True)
class Place:
    """A place in the output where a line begins: its offset, its number, and the style that goes on from before."""

    offset: int = 0
    line: int = 1
    style: ansi.Style = frozenset()


@dataclass(frozen=True)
class Window:
    """A piece of output as HTML, and the place after it."""

    html: SafeString
    after: Place
    is_full: bool


@dataclass(frozen=True)
class Match:
    """A line that was searched for."""

    number: int
    text: str


@dataclass(frozen=True)
class Matches:
    """The first lines that hold the words, and how many there are in all."""

    lines: list[Match] = field(default_factory=list)
    count: int = 0


@dataclass(frozen=True)
class Step:
    """A part of the output that a script began with `::group::NAME`."""

    number: int
    name: str


def window(run_id: int, start: Place, *, is_growing: bool, folds: bool = False) -> Window:
    """Return the lines from a place on, whole ones as long as the last may still grow; `folds` makes steps foldable."""
    data, skipped, place = b"", 0, start.offset
    while len(data) < WINDOW_BYTES:
        chunk = output.read(run_id, place, WINDOW_BYTES - len(data))
        if not chunk.data:
            break
        skipped += chunk.skipped
        data, place = data + chunk.data, chunk.next_offset
    is_full = len(data) >= WINDOW_BYTES
    if is_growing or is_full:
        whole = data.rfind(b"\n") + 1
        if whole or not is_full:
            place -= len(data) - whole
            data = data[:whole]
    lines = data.split(b"\n")
    if len(lines) > WINDOW_LINES:
        left = sum(len(line) + 1 for line in lines[WINDOW_LINES:]) - 1
        place, lines, is_full = place - left, [*lines[:WINDOW_LINES], b""], True
    ends_line = not lines[-1]
    if ends_line:
        lines.pop()
    drawn, style = _draw(run_id, lines, start, place - sum(map(len, lines)) - len(lines) + (not ends_line), folds)
    note = format_html('<span class="quiet">[{} bytes left out]\n</span>', skipped) if skipped else ""
    html = mark_safe(note + drawn)  # noqa: S308 each piece is escaped
    return Window(html, Place(place, start.line + len(lines), style), is_full)


def _draw(run_id: int, lines: list[bytes], start: Place, offset: int, folds: bool) -> tuple[str, ansi.Style]:
    times = output.times(run_id)
    style, pieces, is_open = start.style, [], False
    for number, raw in enumerate(lines, start.line):
        text = ansi.keep_last_form(raw.decode(errors="replace"))
        at, offset = _time_at(times, offset), offset + len(raw) + 1
        plain = ansi.plain_text(text) if "::" in text or "##[" in text else ""
        if plain.startswith(_GROUP):
            html = escape(plain.removeprefix(_GROUP) or "Step")
            if folds:
                pieces.append("</details>" if is_open else "")
                pieces.append(f"<details open><summary>{_line(number, at, html, 'is-step', 'span')}</summary>")
                is_open = True
            else:
                pieces.append(_line(number, at, html, "is-step"))
            continue
        if plain.startswith(_GROUP_END):
            pieces.append("</details>" if is_open else "")
            is_open = False
            continue
        mark = next((prefix for prefix in _MARKS if plain.startswith(prefix)), "")
        html, style = ansi.to_html(text.replace(mark, "", 1) if mark else text, style)
        pieces.append(_line(number, at, html, _MARKS.get(mark, "")))
    return "".join([*pieces, "</details>" if is_open else ""]), style


def _line(number: int, at: str, html: str, kind: str, link: str = "a") -> str:
    """Return a line; number and time are drawn from attributes, so that they are not copied with the text."""
    href = f' href="#L{number}" tabindex="-1" aria-label="Line {number}"' if link == "a" else ""
    time = f'<span class="at" data-at="{at}"></span>' if at else ""
    anchor = f'<{link} class="n"{href} data-n="{number}"></{link}>'
    return f'<span class="line {kind}" id="L{number}">{anchor}{time}{html}\n</span>'


def _time_at(times: list[tuple[int, int]], offset: int) -> str:
    place = bisect_right(times, offset, key=lambda pair: pair[0]) - 1
    return datetime.fromtimestamp(times[place][1], UTC).strftime("%H:%M:%S") if place >= 0 else ""


# --- places
def tail(run_id: int) -> Place:
    """Return where the last lines begin that fit a window."""
    end = output.end(run_id)
    start = max(0, end - WINDOW_BYTES)
    if start:
        chunk = output.read(run_id, start, WINDOW_BYTES)
        start = chunk.next_offset - len(chunk.data) + chunk.data.find(b"\n") + 1
    data = b"".join(_kept(run_id, start))
    extra = data.count(b"\n") - WINDOW_LINES
    if extra > 0:
        start += sum(len(line) + 1 for line in data.split(b"\n")[:extra])
    return Place(start, 1 + sum(piece.count(b"\n") for piece in _kept(run_id, 0, start)))


def around(run_id: int, line: int) -> Place:
    """Return where a window begins that shows the line."""
    wanted = max(1, line - _BEFORE_A_LINE)
    number = 1
    for offset, piece in _placed(run_id):
        count = piece.count(b"\n")
        if number + count >= wanted:
            at = 0
            for _ in range(wanted - number):
                at = piece.index(b"\n", at) + 1
            return Place(offset + at, wanted)
        number += count
    return tail(run_id)


def find(run_id: int, query: str) -> Matches:
    """Return the lines that hold the words, in any case."""
    words = query.lower()
    lines: list[Match] = []
    count = 0
    for number, line in _lines(run_id):
        if words in line.lower():
            count += 1
            if len(lines) < MOST_MATCHES:
                lines.append(Match(number, ansi.plain_text(line)[:_LINE_MOST]))
    return Matches(lines, count)


def first_error(run_id: int) -> int | None:
    """Return the number of the first line that looks like an error."""
    number = 1
    for _, piece in _placed(run_id):
        lowered = piece.lower()
        # To look for words takes a sixth of the expression's time.
        match = _ERROR.search(lowered) if any(word in lowered for word in _ERROR_WORDS) else None
        if match:
            return number + piece.count(b"\n", 0, match.start())
        number += piece.count(b"\n")
    return None


def steps(run_id: int) -> list[Step]:
    """Return the first steps of the output."""
    made: list[Step] = []
    number = 1
    for _, piece in _placed(run_id):
        for match in _STEP.finditer(piece):
            if match.start() and piece[match.start() - 1 : match.start()] != b"\n":
                continue
            name = ansi.plain_text(match[1].decode(errors="replace")).strip()
            made.append(Step(number + piece.count(b"\n", 0, match.start()), name or "Step"))
        number += piece.count(b"\n")
        if len(made) >= _STEPS_MOST:
            break
    return made[:_STEPS_MOST]


def _lines(run_id: int) -> Iterator[tuple[int, str]]:
    number = 1
    for _, piece in _placed(run_id):
        for line in piece.decode(errors="replace").split("\n")[: -1 if piece.endswith(b"\n") else None]:
            yield number, line
            number += 1


def _placed(run_id: int) -> Iterator[tuple[int, bytes]]:
    """Return what was kept, each piece of whole lines, with the offset where it begins."""
    rest, begin, place = b"", 0, 0
    while chunk := _next(run_id, place):
        start = chunk.next_offset - len(chunk.data)
        begin = begin if rest else start
        data, place = rest + chunk.data, chunk.next_offset
        cut = data.rfind(b"\n") + 1
        if cut or len(data) > _CHUNK:
            cut = cut or len(data)
            yield begin, data[:cut]
            begin += cut
        rest = data[cut:]
    if rest:
        yield begin, rest


def _kept(run_id: int, offset: int, until: int | None = None) -> Iterator[bytes]:
    while (until is None or offset < until) and (chunk := _next(run_id, offset)):
        start = chunk.next_offset - len(chunk.data)
        if until is None:
            yield chunk.data
        elif start < until:
            yield chunk.data[: until - start]
        offset = chunk.next_offset


def _next(run_id: int, offset: int) -> Chunk | None:
    time.sleep(0)  # under gevent the others get their turn: reading a file gives them none
    chunk = output.read(run_id, offset, _CHUNK)
    return chunk if chunk.data else None
