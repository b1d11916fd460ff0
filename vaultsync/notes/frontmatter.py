"""Reading a note's frontmatter, and splicing: only chosen keys change, every other byte of the note survives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import frontmatter
from frontmatter.default_handlers import YAMLHandler

from vaultsync.notes.yaml_keys import Entry, Unsafe, entries_of
from vaultsync.notes.yaml_scalars import Value, entry_lines, scalar

BOM = "\ufeff"
_LINE = re.compile("\r\n|[\n\r]")
_YAML_LINE = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_DELIMITER = re.compile(r"---[ \t]*")
_END = re.compile(r"(---|\.\.\.)[ \t]*")


@dataclass(frozen=True)
class Document:
    """A note taken apart: `head` (BOM and opening delimiter), the lines between, `tail` (closing one and the body)."""

    head: str
    lines: Sequence[str]
    closing: str
    body: str
    entries: Sequence[Entry]
    has_frontmatter: bool

    @property
    def text(self) -> str:
        return "".join([self.head, *self.lines, self.closing, self.body])

    @property
    def newline(self) -> str:
        found = _LINE.search(self.head if self.has_frontmatter else self.body)
        return "\r\n" if found and found.group() == "\r\n" else "\n"

    def value(self, key: str) -> str | list[str] | None:
        """What a YAML reader gets for the key: of duplicates the last."""
        found = [entry for entry in self.entries if entry.key == key]
        return found[-1].value if found else None

    def raw(self, entry: Entry) -> str:
        return "".join(self.lines[entry.first : entry.end])

    def others(self, keys: Sequence[str]) -> list[tuple[str, str]]:
        """The keys that are not in `keys`, each with its text as written."""
        return [(entry.key, self.raw(entry)) for entry in self.entries if entry.key not in keys]


def parse(text: str) -> Document:
    """Take a note apart; raises Unsafe for frontmatter that can't be read with certainty."""
    mark, rest = (BOM, text[1:]) if text.startswith(BOM) else ("", text)
    first = _LINE.search(rest)
    opening = rest[: first.end()] if first else rest
    if not _DELIMITER.fullmatch(opening.rstrip("\r\n")):
        return Document(mark, (), "", rest, (), False)
    position = len(opening)
    for line in _lines(rest[position:], _LINE):
        if _END.fullmatch(line.rstrip("\r\n")):
            inner = rest[len(opening) : position]
            lines = tuple(_lines(inner, _YAML_LINE))
            body = rest[position + len(line) :]
            return Document(mark + opening, lines, line, body, tuple(entries_of(inner, lines)), True)
        position += len(line)
    raise Unsafe("the frontmatter has no closing ---")


def splice(text: str, values: Mapping[str, Value], owned: Sequence[str]) -> str:
    """The note with the owned keys set to `values` and absent where they have none; raises Unsafe.

    Everything else keeps its bytes. The result is read again before it is returned: other keys, the body and the
    values must be what they should be.
    """
    before = parse(text)
    if not before.has_frontmatter:
        newline = before.newline
        added = "".join(entry_lines(key, values[key], newline) for key in owned if key in values)
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
    return scalar(value) if isinstance(value, int) else value


def _spliced_lines(before: Document, values: Mapping[str, Value], owned: Sequence[str]) -> list[str]:
    pieces: dict[int, tuple[int, str]] = {}  # first line → (end, replacement)
    first_of: dict[str, Entry] = {}
    for entry in before.entries:
        if entry.key not in owned:
            continue
        if entry.key in values and entry.key not in first_of:
            pieces[entry.first] = (entry.end, _replaced(before, entry, values[entry.key]))
        else:
            pieces[entry.first] = (entry.end, _comment_of(before, entry))
        first_of.setdefault(entry.key, entry)
    additions: dict[int, str] = {}
    for number, key in enumerate(owned):
        if key in values and key not in first_of:
            earlier = [first_of[name].end for name in owned[:number] if name in first_of and name in values]
            place = earlier[-1] if earlier else 0
            additions[place] = additions.get(place, "") + entry_lines(key, values[key], before.newline)
    lines: list[str] = [additions.get(0, "")]
    position = 0
    while position < len(before.lines):
        end, replacement = pieces.get(position, (position + 1, before.lines[position]))
        lines.append(replacement)
        lines.append(additions.get(end, ""))
        position = end
    return lines


def _replaced(before: Document, entry: Entry, value: Value) -> str:
    raw = before.raw(entry)
    if isinstance(value, list) and entry.value == value and entry.is_list:
        return raw
    newline = raw[len(raw.rstrip("\r\n")) :] or before.newline
    if isinstance(value, list) or entry.end - entry.first > 1:
        return entry_lines(entry.key, value, newline)
    return f"{entry.key}: {scalar(value)}{_comment(before, entry)}{newline}"


def _comment(before: Document, entry: Entry) -> str:
    """The comment behind a value on the key's own line, with the blanks before it."""
    line = before.lines[entry.first].rstrip("\r\n")
    if entry.column is None:
        return ""
    found = re.search(r"[ \t]+#.*$", line[max(0, entry.column - 1) :])
    return found.group() if found else ""


def _comment_of(before: Document, entry: Entry) -> str:
    """What stays of an entry that goes: people's comment."""
    comment = _comment(before, entry).strip()
    return comment + before.newline if comment else ""


def _lines(text: str, ending: re.Pattern[str]) -> Iterator[str]:
    position = 0
    for found in ending.finditer(text):
        yield text[position : found.end()]
        position = found.end()
    if position < len(text):
        yield text[position:]


class NoteHandler(YAMLHandler):
    """python-frontmatter's handler: reads with Document, writes new notes, and splices a post read from `source`."""

    def __init__(self, owned: Sequence[str], source: str | None = None) -> None:
        super().__init__()
        self.owned = owned
        self.source = source

    def detect(self, text: str) -> bool:
        return parse(text).has_frontmatter

    def split(self, text: str) -> tuple[str, str]:
        document = parse(text)
        return "".join(document.lines), document.body

    def load(self, fm: str, **kwargs: object) -> dict[str, Any]:
        lines = tuple(_lines(fm, _YAML_LINE))
        return {entry.key: entry.value for entry in entries_of(fm, lines)}

    def export(self, metadata: Mapping[str, Any], **kwargs: object) -> str:
        return "".join(entry_lines(key, metadata[key], "\n") for key in self.owned if key in metadata)

    def format(self, post: frontmatter.Post, **kwargs: object) -> str:
        if self.source is not None:
            known: dict[str, Any] = {key: post.metadata[key] for key in self.owned if key in post.metadata}
            return splice(self.source, known, self.owned)
        return f"---\n{self.export(post.metadata)}---\n\n{post.content.strip()}\n"
