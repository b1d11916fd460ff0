"""Why a run failed, in one line: how its script ended, and the last words that it printed."""

from __future__ import annotations

from core.text import one_line
from jobs.execution import ansi, output

_TAIL_BYTES = 8192
_MOST_CHARACTERS = 200
_COMMANDS = ("::endgroup::", "::group::")
_ERROR = "::error::"


def reason(run_id: int, exit_code: int | None, note: str) -> str:
    """Return the reason, such as `exit 3 · cannot open /data/yesterday.csv`; `note` stands where there is no code."""
    how = f"exit {exit_code}" if exit_code is not None else ""
    return " · ".join(filter(None, (how, note, last_line(run_id))))


def last_line(run_id: int) -> str:
    """Return the last line of output that says something; empty where there is none."""
    data, _ = output.tail(run_id, _TAIL_BYTES)
    for line in reversed(ansi.plain_text(data.decode(errors="replace")).splitlines()):
        text = " ".join(one_line(line).split()).removeprefix(_ERROR)
        if text and not text.startswith(_COMMANDS):
            return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
    return ""
