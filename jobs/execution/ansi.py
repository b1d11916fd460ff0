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
_URL = re.compile(r"https?://[^\s<>\"'`{}|\\^\x00-\x1f]+[^\s<>\"'`{}|\\^\x00-\x1f.,;:!?)\]]")
# Colours of the palette of 256 are numbered after these: 3800 + n for text, 4800 + n behind it.
_TEXT, _BEHIND = 3800, 4800
_TEXTS = {*range(30, 38), *range(90, 98), *range(_TEXT, _TEXT + 256)}
_BACKGROUNDS = {*range(40, 48), *range(100, 108), *range(_BEHIND, _BEHIND + 256)}
_KEPT = {1, 2, 3, 4, 7, 9, *_TEXTS, *_BACKGROUNDS}
_ENDS = {22: {1, 2}, 23: {3}, 24: {4}, 27: {7}, 29: {9}, 39: _TEXTS, 49: _BACKGROUNDS}
_LEVELS = (0, 95, 135, 175, 215, 255)  # of the palette's cube
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
    html = _with_links(CONTROLS.sub("", ESCAPES.sub("", text)))
    if not html or not style:
        return html
    return f'<span class="{" ".join(f"ansi-{code}" for code in sorted(style))}">{html}</span>'


def _with_links(text: str) -> str:
    """Escape the text; the addresses of web pages in it become links."""
    pieces, place = [], 0
    for match in _URL.finditer(text):
        address = escape(match[0])
        link = f'<a href="{address}" rel="noopener noreferrer nofollow" target="_blank">{address}</a>'
        pieces += [escape(text[place : match.start()]), link]
        place = match.end()
    return "".join([*pieces, escape(text[place:])])


def _after(style: Style, codes: str) -> Style:
    numbers = [int(code[:4] or 0) for code in codes.split(";")]
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            style = frozenset()
        elif code in {38, 48}:
            place = _place_in_palette(numbers)
            if place is not None:
                base, same = (_TEXT, _TEXTS) if code == 38 else (_BEHIND, _BACKGROUNDS)
                style = style - same | {base + place}
        elif code in _ENDS:
            style -= _ENDS[code]
        elif code in _KEPT and code < _TEXT:
            style = style - (_TEXTS if code in _TEXTS else _BACKGROUNDS if code in _BACKGROUNDS else set()) | {code}
    return style


def _place_in_palette(numbers: list[int]) -> int | None:
    """Take what follows 38 or 48, `5;N` or `2;R;G;B`; return the colour, or its nearest, in the palette of 256."""
    kind = numbers.pop(0) if numbers else 0
    values = [numbers.pop(0) for _ in range(min({5: 1, 2: 3}.get(kind, 0), len(numbers)))]
    if not values or max(values) > 255:
        return None
    if kind == 5:
        return values[0]
    if len(values) < 3:
        return None
    red, green, blue = (min(range(6), key=lambda step: abs(_LEVELS[step] - value)) for value in values)
    return 16 + 36 * red + 6 * green + blue
