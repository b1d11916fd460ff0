"""The frontmatter of a note: parsed, and spliced so that only the database's keys change and every other byte stays.

The values that are written are one line of YAML each: scripts grep `^status: completed`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from vaultsync.notes.yaml_keys import Key, Unsafe, parse_keys

Value = str | int | bool | list[str]

BOM = "\ufeff"
_LINE = re.compile("\r\n|[\n\r]")
_YAML_LINE = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_DELIMITER = re.compile(r"---[ \t]*")
_END = re.compile(r"(---|\.\.\.)[ \t]*")
# A letter, then printable ASCII but for colons and number signs: always one plain scalar.
_PLAIN = re.compile(r"[A-Za-z][ -\"$-9;-~]*(?<! )")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_NUMERIC = re.compile(r"[-+.]?\d[\d_.:a-fxo+-]*", re.ASCII | re.IGNORECASE)
_COMMENT = re.compile(r"(?:^|[ \t])(#[^\r\n]*)")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_BREAKS = frozenset("\n\r\x85\u2028\u2029")
_NO_WRAPPING = 2**31 - 1


@dataclass(frozen=True)
class Document:
    """The parts of a note: BOM and opening delimiter, the lines of the frontmatter, closing delimiter, body."""

    head: str
    lines: Sequence[str]
    closing: str
    body: str
    keys: Sequence[Key]
    has_frontmatter: bool

    @property
    def text(self) -> str:
        return "".join([self.head, *self.lines, self.closing, self.body])

    @property
    def newline(self) -> str:
        match = _LINE.search(self.head if self.has_frontmatter else self.body)
        return "\r\n" if match and match.group() == "\r\n" else "\n"

    def value(self, key: str) -> str | list[str] | None:
        """Return what a YAML reader gets for the key: of duplicates the last."""
        values = [item.value for item in self.keys if item.name == key]
        return values[-1] if values else None

    def raw(self, key: Key) -> str:
        """Return the text of a key and its value as written."""
        return "".join(self.lines[key.first : key.end])

    def others(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return the keys that are not in `names`, each with its text as written."""
        return [(key.name, self.raw(key)) for key in self.keys if key.name not in names]


def parse(text: str) -> Document:
    """Split a note into its parts; raises Unsafe for frontmatter that can't be read with certainty."""
    mark, rest = (BOM, text[1:]) if text.startswith(BOM) else ("", text)
    first = _LINE.search(rest)
    delimiter = rest[: first.end()] if first else rest
    if not _DELIMITER.fullmatch(delimiter.rstrip("\r\n")):
        return Document(mark, (), "", rest, (), False)
    position = len(delimiter)
    for line in _lines(rest[position:], _LINE):
        if _END.fullmatch(line.rstrip("\r\n")):
            inner = rest[len(delimiter) : position]
            lines = tuple(_lines(inner, _YAML_LINE))
            body = rest[position + len(line) :]
            return Document(mark + delimiter, lines, line, body, parse_keys(inner, lines), True)
        position += len(line)
    raise Unsafe("the frontmatter has no closing ---")


def splice(text: str, values: Mapping[str, Value], owned: Sequence[str]) -> str:
    """Return the note with the owned keys set to `values`, absent where they have none; raises Unsafe.

    Everything else keeps its bytes: the result is parsed again, and must have the same other keys and body.
    """
    before = parse(text)
    if not before.has_frontmatter:
        newline = before.newline
        added = "".join(format_key(key, values[key], newline) for key in owned if key in values)
        result = f"{before.head}---{newline}{added}---{newline}{before.body}"
    else:
        lines = _spliced_lines(before, values, owned)
        result = "".join([before.head, *lines, before.closing, before.body])
    if result == text:
        return text
    after = parse(result)
    if after.body != before.body or after.others(owned) != before.others(owned):
        raise Unsafe("its keys can't be told apart with certainty")
    if any(after.value(key) != _as_read(values.get(key)) for key in owned):
        raise Unsafe("a key of the database can't be set without changing others")
    return result


def _as_read(value: Value | None) -> str | list[str] | None:
    if value is None or isinstance(value, list):
        return value
    return format_scalar(value) if isinstance(value, int) else value


def _spliced_lines(before: Document, values: Mapping[str, Value], owned: Sequence[str]) -> list[str]:
    replacements: dict[int, tuple[int, str]] = {}  # first line → (end, text)
    first_of: dict[str, Key] = {}
    for key in before.keys:
        if key.name not in owned:
            continue
        if key.name in values and key.name not in first_of:
            replacements[key.first] = (key.end, _replacement(before, key, values[key.name]))
        else:
            replacements[key.first] = (key.end, _comment_lines(before, key))
        first_of.setdefault(key.name, key)
    additions: dict[int, str] = {}
    for number, name in enumerate(owned):
        if name in values and name not in first_of:
            earlier = [first_of[other].end for other in owned[:number] if other in first_of and other in values]
            place = earlier[-1] if earlier else 0
            additions[place] = additions.get(place, "") + format_key(name, values[name], before.newline)
    lines: list[str] = [additions.get(0, "")]
    position = 0
    while position < len(before.lines):
        end, text = replacements.get(position, (position + 1, before.lines[position]))
        lines.append(text)
        lines.append(additions.get(end, ""))
        position = end
    return lines


def _replacement(before: Document, key: Key, value: Value) -> str:
    raw = before.raw(key)
    if isinstance(value, list) and key.value == value and key.is_list:
        return raw
    newline = raw[len(raw.rstrip("\r\n")) :] or before.newline
    if isinstance(value, list) or key.end - key.first > 1:
        return _comment_lines(before, key) + format_key(key.name, value, newline)
    return f"{key.name}: {format_scalar(value)}{_comment(before, key)}{newline}"


def _comment(before: Document, key: Key) -> str:
    """Return the comment behind a value on the key's own line, with the blanks before it."""
    line = before.lines[key.first].rstrip("\r\n")
    if key.column is None:
        return ""
    match = re.search(r"[ \t]+#.*$", line[max(0, key.column - 1) :])
    return match.group() if match else ""


def _comment_lines(before: Document, key: Key) -> str:
    """Return the comments in the lines of a key as lines of their own: they are people's."""
    comments = [_comment(before, key).strip()]
    comments += [match[1] for line in before.lines[key.first + 1 : key.end] if (match := _COMMENT.search(line))]
    if key.column is None and (match := _COMMENT.search(before.lines[key.first])):
        comments.insert(0, match[1])
    return "".join(f"{comment}{before.newline}" for comment in comments if comment)


def _lines(text: str, ending: re.Pattern[str]) -> Iterator[str]:
    position = 0
    for match in ending.finditer(text):
        yield text[position : match.end()]
        position = match.end()
    if position < len(text):
        yield text[position:]


# --- writing values
def format_key(key: str, value: Value, newline: str) -> str:
    """Return the key as written in a note: one plain line, or a block of items for a list."""
    if isinstance(value, list):
        return "".join([f"{key}:{newline}", *(f"- {format_scalar(item)}{newline}" for item in value)])
    return f"{key}: {format_scalar(value)}{newline}"


@functools.lru_cache(maxsize=4096)
def format_scalar(value: str | int | bool) -> str:
    """Return the value as one line of YAML, unquoted where versions 1.1 and 1.2 both read that as the same text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if _TIME.fullmatch(value) or _NUMERIC.fullmatch(value):
        return f"'{value}'"
    if value.isprintable() and (": " in value or " #" in value):
        return "'" + value.replace("'", "''") + "'"
    style = '"' if _BREAKS.intersection(value) else None  # what breaks a line must be escaped
    text: str = yaml.dump(value, Dumper=yaml.SafeDumper, width=_NO_WRAPPING, allow_unicode=True, default_style=style)
    return text.removesuffix("...\n").rstrip("\n")
