"""The frontmatter of a note: parsed, and spliced so that only the database's keys change and every other byte stays.

The values that are written are one line of YAML each: scripts grep `^status: completed`. The sync writes notes with it,
and the review of changes to the vault lets nothing pass that the sync could not read.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import yaml

Value = str | int | bool | list[str]

_BOM = "\ufeff"
_LINE = re.compile("[^\n\r]*(?:\r\n|[\n\r])|[^\n\r]+")
_YAML_LINE = re.compile("[^\n\r\x85\u2028\u2029]*(?:\r\n|[\n\r\x85\u2028\u2029])|[^\n\r\x85\u2028\u2029]+")
_DELIMITER = re.compile(r"---[ \t]*")
_END = re.compile(r"(---|\.\.\.)[ \t]*")
_MOST_CHARACTERS = 256 * 1024
_SHALLOW_CHARACTERS = 2000
_DEEPEST = 100
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# A letter, then printable ASCII but for colons and number signs: always one plain scalar.
_PLAIN = re.compile(r"[A-Za-z][ -\"$-9;-~]*(?<! )")
_NUMERIC = re.compile(r"[-+.]?\d[\w.:+ -]*", re.ASCII)
_COMMENT = re.compile(r"(?:^|[ \t])(#[^\r\n]*)")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_BREAKS = frozenset("\n\r\x85\u2028\u2029")
_NO_WRAPPING = 2**31 - 1


class _Loader(yaml.CBaseLoader):
    """Composes nodes without a look for their tags, which nothing here asks for."""

    def descend_resolver(self, current_node: object, current_index: object) -> None:
        pass

    def ascend_resolver(self) -> None:
        pass

    def resolve(self, kind: object, value: object, implicit: object) -> str:
        return ""


class Unsafe(Exception):
    """The frontmatter can't be changed without risk; the text is a sentence for people."""


@dataclass(frozen=True)
class Key:
    """A top-level key, and the lines `first` up to but not including `end` that hold it and its value.

    `value` is a scalar or a list of scalars as written, None for null and everything else; `column` is where the value
    ends on the key's own line, None when it goes on below.
    """

    name: str
    first: int
    end: int
    value: str | list[str] | None
    column: int | None


@dataclass(frozen=True)
class Document:
    """The parts of a note: BOM and opening delimiter, the lines of the frontmatter, closing delimiter, body."""

    head: str
    lines: Sequence[str]
    closing: str
    body: str
    keys: Sequence[Key]

    @property
    def has_frontmatter(self) -> bool:
        return bool(self.closing)

    @property
    def newline(self) -> str:
        first = _LINE.match(self.head if self.closing else self.body)
        return "\r\n" if first and first[0].endswith("\r\n") else "\n"

    def value(self, key: str) -> str | list[str] | None:
        """Return what a YAML reader gets for the key: of duplicates the last."""
        return self._values.get(key)

    @functools.cached_property
    def _values(self) -> dict[str, str | list[str] | None]:
        return {key.name: key.value for key in self.keys}

    def raw(self, key: Key) -> str:
        """Return the text of a key and its value as written."""
        return "".join(self.lines[key.first : key.end])

    def others(self, names: Collection[str]) -> list[tuple[str, str]]:
        """Return the keys that are not in `names`, each with its text as written."""
        return [(key.name, self.raw(key)) for key in self.keys if key.name not in names]


@functools.lru_cache(maxsize=4)  # a note is parsed to be judged, and to be spliced
def parse(text: str) -> Document:
    """Split a note into its parts; raises Unsafe for frontmatter that can't be read with certainty."""
    mark = _BOM if text.startswith(_BOM) else ""
    first = _LINE.match(text, len(mark))
    if not first or not _DELIMITER.fullmatch(first[0].rstrip("\r\n")):
        return Document(mark, (), "", text[len(mark) :], ())
    for line in _LINE.finditer(text, first.end()):
        if _END.fullmatch(line[0].rstrip("\r\n")):
            inner = text[first.end() : line.start()]
            lines = tuple(_YAML_LINE.findall(inner))
            return Document(text[: first.end()], lines, line[0], text[line.end() :], _parse_keys(inner, lines))
    raise Unsafe("the frontmatter has no closing ---")


def decode(content: bytes) -> str:
    """Return the text of a note; raises Unsafe."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Unsafe("it is not UTF-8 text") from None


def parse_bytes(content: bytes) -> Document:
    """Split a note as it lies in a file; raises Unsafe also for what is not UTF-8."""
    return parse(decode(content))


@functools.lru_cache(maxsize=16)
def _parse_keys(inner: str, lines: tuple[str, ...]) -> tuple[Key, ...]:
    """Return the keys between the delimiters; `lines` is `inner` split at YAML's breaks."""
    if len(inner) > _MOST_CHARACTERS:
        raise Unsafe("the frontmatter is larger than 256 KiB")
    try:
        _check_depth(inner)
        root = yaml.compose(inner, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark else ""
        raise Unsafe(f"the frontmatter is not valid YAML{where}") from None
    if root is None:
        return ()
    if not isinstance(root, yaml.MappingNode):
        raise Unsafe("the frontmatter is not a list of keys with values")
    if root.flow_style:
        raise Unsafe("the frontmatter is written in braces")
    starts = [key.start_mark.line for key, _ in root.value] + [len(lines)]
    if starts != sorted(set(starts)):
        raise Unsafe("the frontmatter has several keys on one line")
    return tuple(_make_key(key, value, lines, end) for (key, value), end in zip(root.value, starts[1:], strict=True))


def _check_depth(inner: str) -> None:
    """Refuse deep nesting, which anyone can push: the composer recurses in C, and would end the process."""
    depth = 0
    for event in yaml.parse(inner, Loader=yaml.CBaseLoader) if len(inner) > _SHALLOW_CHARACTERS else ():
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise Unsafe("the frontmatter is nested too deeply")


def _make_key(key: yaml.Node, value: yaml.Node, lines: Sequence[str], end: int) -> Key:
    """Return a key whose lines end before `end`; blank lines and comments below its value are no part of it."""
    first = key.start_mark.line
    if not isinstance(key, yaml.ScalarNode) or key.start_mark.column:
        raise Unsafe("the frontmatter's keys don't begin their lines")
    if lines[first].startswith("?"):
        raise Unsafe("the frontmatter has a key in the long form")
    is_literal = isinstance(value, yaml.ScalarNode) and value.style in ("|", ">")
    while end > first + 1:
        line = lines[end - 1] if is_literal else lines[end - 1].lstrip(" ")
        if line.strip() and not line.startswith("#"):
            break
        end -= 1
    is_one_line = value.start_mark.line == value.end_mark.line == first
    return Key(key.value, first, end, _value_of(value), value.end_mark.column if is_one_line else None)


def _value_of(node: yaml.Node) -> str | list[str] | None:
    if isinstance(node, yaml.ScalarNode):
        return None if not node.style and node.value in _NULLS else str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [str(item.value) for item in node.value]
    return None


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
    ours = frozenset(owned)
    if after.body != before.body or after.others(ours) != before.others(ours):
        raise Unsafe("its keys can't be told apart with certainty")
    if any(after.value(key) != as_read(values.get(key)) for key in owned):
        raise Unsafe("a key of the database can't be set without changing others")
    return result


def as_read(value: Value | None) -> str | list[str] | None:
    """Return what a YAML reader gets for a value that was written, as `Document.value` has it."""
    if value is None or isinstance(value, list):
        return value
    return format_scalar(value) if isinstance(value, int) else value


def _spliced_lines(before: Document, values: Mapping[str, Value], owned: Sequence[str]) -> list[str]:
    pieces = ["", *before.lines]  # to the first is added what has no place of its own
    ends: dict[str, int] = {}
    for key in before.keys:
        if key.name in owned:
            is_written = key.name in values and key.name not in ends
            text = _replacement(before, key, values[key.name]) if is_written else _comment_lines(before, key)
            pieces[key.first + 1 : key.end + 1] = [text, *[""] * (key.end - key.first - 1)]
            ends.setdefault(key.name, key.end)
    place = 0
    for name in owned:
        if name in values:
            place = ends.get(name, place)
            pieces[place] += "" if name in ends else format_key(name, values[name], before.newline)
    return pieces


def _replacement(before: Document, key: Key, value: Value) -> str:
    raw = before.raw(key)
    if isinstance(value, list) and key.value == value:
        return raw
    newline = raw[len(raw.rstrip("\r\n")) :] or before.newline
    if isinstance(value, list) or key.end - key.first > 1:
        return _comment_lines(before, key) + format_key(key.name, value, newline)
    return f"{key.name}: {format_scalar(value)}{_comment(before, key)}{newline}"


def _comment(before: Document, key: Key) -> str:
    """Return the comment behind a value on the key's own line, with the blanks before it."""
    line = before.lines[key.first].rstrip("\r\n")
    if key.column is None or "#" not in line:
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
    if _NUMERIC.fullmatch(value):  # times as well
        return f"'{value}'"
    if value.isprintable() and (": " in value or " #" in value):
        return "'" + value.replace("'", "''") + "'"
    style = '"' if _BREAKS.intersection(value) else None  # what breaks a line must be escaped
    text: str = yaml.dump(value, Dumper=yaml.SafeDumper, width=_NO_WRAPPING, allow_unicode=True, default_style=style)
    return text.removesuffix("...\n").rstrip("\n")
