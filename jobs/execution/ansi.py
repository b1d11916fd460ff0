"""Output for a terminal as HTML: colours become classes, all other control sequences are left out."""

from __future__ import annotations

import re

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])"
)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_COLOUR = re.compile(r"\x1b\[([0-9;]*)m")
_KEPT = {1, 2, 3, 4, *range(30, 38), *range(90, 98), *range(40, 48)}
_ENDS = {22: {1, 2}, 23: {3}, 24: {4}, 39: {*range(30, 38), *range(90, 98)}, 49: set(range(40, 48))}
Style = frozenset[int]


def to_html(text: str, style: Style = frozenset()) -> tuple[SafeString, Style]:
    """Return the text escaped, coloured by `ansi-N` classes, and the style that text after it goes on with."""
    pieces, place = [], 0
    for match in _COLOUR.finditer(text):
        pieces.append(_span(text[place : match.start()], style))
        style, place = _after(style, match[1]), match.end()
    pieces.append(_span(text[place:], style))
    return mark_safe("".join(pieces)), style  # noqa: S308 each piece is escaped


def plain_text(text: str) -> str:
    """Return output without what only a terminal understands; a rewritten line keeps its last form."""
    return _printable(ESCAPES.sub("", text))


def style_text(style: Style) -> str:
    return ".".join(map(str, sorted(style)))


def read_style(text: str) -> Style:
    """Read a style as style_text() wrote it; whatever else a caller sends is left out."""
    by_text = {str(code): code for code in _KEPT}
    return frozenset(by_text[part] for part in text.split(".") if part in by_text)


def keep_last_form(text: str) -> str:
    """Return lines that were rewritten by carriage returns, as they stood last; colours stay."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _printable(text: str) -> str:
    return CONTROLS.sub("", keep_last_form(text))


def _span(text: str, style: Style) -> str:
    html = escape(CONTROLS.sub("", ESCAPES.sub("", text)))
    if not html or not style:
        return html
    return f'<span class="{" ".join(f"ansi-{code}" for code in sorted(style))}">{html}</span>'


def _after(style: Style, codes: str) -> Style:
    numbers = [int(code[:4] or 0) for code in codes.split(";")]
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            style = frozenset()
        elif code in {38, 48}:  # a colour of many: html as the text's own
            del numbers[: {5: 2, 2: 4}.get(numbers[0] if numbers else 0, 1)]
        elif code in _ENDS:
            style -= _ENDS[code]
        elif code in _KEPT:
            same = _ENDS[39] if code in _ENDS[39] else _ENDS[49] if code in _ENDS[49] else set()
            style = style - same | {code}
    return style
