"""Portable statements as SQLite takes them."""

import functools
import re

_PLACEHOLDER = re.compile(r"%(?:%|s|\((\w+)\)s)")


@functools.lru_cache(maxsize=2048)
def native_sql(sql: str) -> str:
    """Return SQL with SQLite's own parameters, `?` and `:name`, in place of `%s` and `%(name)s`."""
    return _PLACEHOLDER.sub(_native, sql)


def _native(placeholder: re.Match[str]) -> str:
    if placeholder[1]:
        return f":{placeholder[1]}"
    return "?" if placeholder[0] == "%s" else "%"
