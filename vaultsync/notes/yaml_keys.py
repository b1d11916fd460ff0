"""The top-level keys of a YAML mapping and the lines they stand on, without composing what lies deeper.

The parser's events are read one by one: composing nodes recurses in C, and nesting of some thousand levels, which
anyone can push, would end the process.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml import events as ev

_MOST_CHARACTERS = 256 * 1024
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Unsafe(Exception):
    """The frontmatter can't be changed without risk; the text is a sentence for people."""


@dataclass(frozen=True)
class Key:
    """A top-level key, and the lines `first` up to but not including `end` that hold it and its value.

    `value` is a scalar as written, a list of scalars, or None for null and everything else; `column` is where the
    value ends on the key's own line, None when it goes on below.
    """

    name: str
    first: int
    end: int
    value: str | list[str] | None
    is_list: bool
    column: int | None


@dataclass
class _PartialKey:
    name: str
    line: int
    value: str | list[str] | None = None
    is_list: bool = False
    is_literal: bool = False
    column: int | None = None


@functools.lru_cache(maxsize=16)
def parse_keys(inner: str, lines: tuple[str, ...]) -> tuple[Key, ...]:
    """Return the keys between the delimiters; `lines` is `inner` split at YAML's breaks. Raises Unsafe."""
    return tuple(_parse_keys(inner, lines))


def _parse_keys(inner: str, lines: Sequence[str]) -> Iterator[Key]:
    if len(inner) > _MOST_CHARACTERS:
        raise Unsafe("the frontmatter is larger than 256 KiB")
    try:
        keys = _read_keys(inner)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark else ""
        raise Unsafe(f"the frontmatter is not valid YAML{where}") from None
    starts = [key.line for key in keys] + [len(lines)]
    if starts != sorted(set(starts)):
        raise Unsafe("the frontmatter has several keys on one line")
    for key, following in zip(keys, starts[1:], strict=True):
        if lines[key.line].startswith("?"):
            raise Unsafe("the frontmatter has a key in the long form")
        end = following
        while end > key.line + 1 and _is_blank_or_comment(lines[end - 1], key.is_literal):
            end -= 1
        yield Key(key.name, key.line, end, key.value, key.is_list, key.column)


def _read_keys(inner: str) -> list[_PartialKey]:
    """Return the mapping's keys with the shapes of their values."""
    keys: list[_PartialKey] = []
    anchors: set[str] = set()
    depth, documents, is_key = 0, 0, True
    event: Any
    for event in yaml.parse(inner, Loader=yaml.CSafeLoader):
        if isinstance(event, ev.DocumentStartEvent):
            documents += 1
        elif isinstance(event, ev.CollectionEndEvent):
            depth -= 1
            if depth == 1:
                is_key = True
                _end_value(keys[-1], event)
        elif isinstance(event, ev.NodeEvent):
            _check_anchor(event, anchors)
            if depth == 0:
                _check_root(event)
                if isinstance(event, ev.ScalarEvent):
                    return []
            elif depth == 1 and is_key:
                keys.append(_begin_key(event))
                is_key = False
            elif depth == 1:
                _begin_value(keys[-1], event)
                is_key = not isinstance(event, ev.CollectionStartEvent)
            elif depth == 2 and isinstance(keys[-1].value, list):
                _add_item(keys[-1], event)
            if isinstance(event, ev.CollectionStartEvent):
                depth += 1
    if documents > 1:
        raise Unsafe("the frontmatter is more than one YAML document")
    return keys


def _check_anchor(event: Any, anchors: set[str]) -> None:
    if isinstance(event, ev.AliasEvent):
        if event.anchor not in anchors:
            raise Unsafe("the frontmatter is not valid YAML (an alias without its anchor)")
    elif event.anchor:
        anchors.add(event.anchor)


def _check_root(event: Any) -> None:
    if isinstance(event, ev.ScalarEvent) and event.value == "" and event.style is None:
        return
    if not isinstance(event, ev.MappingStartEvent):
        raise Unsafe("the frontmatter is not a list of keys with values")
    if event.flow_style:
        raise Unsafe("the frontmatter is written in braces")


def _begin_key(event: Any) -> _PartialKey:
    mark = event.start_mark
    if not isinstance(event, ev.ScalarEvent) or mark.column:
        raise Unsafe("the frontmatter's keys don't begin their lines")
    return _PartialKey(str(event.value), mark.line)


def _begin_value(key: _PartialKey, event: Any) -> None:
    start, end = event.start_mark, event.end_mark
    if isinstance(event, ev.ScalarEvent):
        plain_null = event.style is None or event.style == ""
        key.value = None if plain_null and event.value in _NULLS else str(event.value)
        key.is_literal = event.style in ("|", ">")
        if start.line == end.line == key.line:
            key.column = end.column
    elif isinstance(event, ev.SequenceStartEvent):
        key.value, key.is_list = [], True


def _add_item(key: _PartialKey, event: Any) -> None:
    if isinstance(event, ev.ScalarEvent) and isinstance(key.value, list):
        key.value.append(str(event.value))
    else:
        key.value = None


def _end_value(key: _PartialKey, event: Any) -> None:
    if event.end_mark.line == key.line:
        key.column = event.end_mark.column


def _is_blank_or_comment(line: str, literal: bool) -> bool:
    """Return True for a line that is no part of the value above it."""
    return not line.strip() or (line if literal else line.lstrip(" ")).startswith("#")
