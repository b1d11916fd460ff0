"""YAML values of the keys that the database owns, each on one line: scripts grep `^status: completed`."""

from __future__ import annotations

import functools
import re

import yaml

Value = str | int | bool | list[str]

# A letter, then printable ASCII but for colons and number signs: always one plain scalar.
_PLAIN = re.compile(r"[A-Za-z][ -\"$-9;-~]*(?<! )")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_NUMERIC = re.compile(r"[-+.]?\d[\d_.:a-fxo+-]*", re.ASCII | re.IGNORECASE)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_BREAKS = frozenset("\n\r\x85\u2028\u2029")
_ENDLESS = 2**31 - 1


def entry_lines(key: str, value: Value, newline: str) -> str:
    """The key as it stands in a note: one plain line, or a block of items for a list."""
    if isinstance(value, list):
        return "".join([f"{key}:{newline}", *(f"- {scalar(item)}{newline}" for item in value)])
    return f"{key}: {scalar(value)}{newline}"


@functools.lru_cache(maxsize=4096)
def scalar(value: str | int | bool) -> str:
    """The value as one line of YAML, unquoted where versions 1.1 and 1.2 both read that as the same text."""
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
    quoted = bool(_BREAKS.intersection(value))
    written: str = yaml.dump(
        value, Dumper=yaml.SafeDumper, width=_ENDLESS, allow_unicode=True, default_style='"' if quoted else None
    )
    return written.removesuffix("...\n").rstrip("\n")
