"""Native threads under gevent, for calls that would keep all other greenlets waiting."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def in_native_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call the function in gevent's thread pool; directly in processes that don't run under gevent."""
    monkey = sys.modules.get("gevent.monkey")  # only web imports it: that takes 30 ms
    if monkey is None or not monkey.is_module_patched("threading"):
        return function(*arguments)
    result, error = sys.modules["gevent"].get_hub().threadpool.apply(_outcome, (function, arguments))
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _outcome(function: Callable[..., T], arguments: tuple[Any, ...]) -> tuple[T | None, Exception | None]:
    """The pool itself would print a traceback of each exception."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error
