"""Text that others wrote: escaped for places where some characters are commands, and converted to what columns hold."""

from __future__ import annotations

import json
import math
import re

# Controls, among them line breaks and the start of a terminal's escape sequences; overrides of the text's direction;
# lone surrogates, which stand for bytes that are not UTF-8 and can't be encoded.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What Obsidian and its Dataview plugin interpret: HTML, images and embedded notes, code that is run.
_MARKDOWN = re.compile(r"(\\*)(<(?=[A-Za-z/!?])|`(?=\s*\$?=)|(?<=!)\[)")


def one_line(text: str) -> str:
    """Return the text with a blank for each character that a terminal, a log or an editor would obey."""
    return _CONTROLS.sub(" ", text)


def as_sentence(text: str) -> str:
    """Return the text of an error as a sentence for a page: with a capital, and one full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def escape_markdown(text: str) -> str:
    """Return one line of Markdown that renders as the text: no HTML, no images, no queries.

    Backslashes before an escaped character are doubled, so that they escape nothing themselves.
    """
    line = " ".join(one_line(text).split())
    return _MARKDOWN.sub(lambda match: f"{match[1] * 2}\\{match[2]}", line)


def as_text(value: object) -> str | None:
    """Return text unchanged, anything else as JSON, None as None."""
    if value is None:
        return None
    string = value if isinstance(value, str) else json.dumps(value)
    return string.encode("utf-8", "replace").decode()  # JSON can contain lone surrogates, UTF-8 can't


def as_number(value: object) -> float | None:
    """Return a number, or text that is one, as a finite float; None for anything else."""
    if not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def as_count(value: object) -> int:
    """Return an integer of 64 bits; 0 for anything else."""
    result = as_number(value)
    return int(result) if result is not None and abs(result) < 2**63 else 0
