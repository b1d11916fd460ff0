"""Invisible characters of what programs and repositories wrote, made visible on the pages of the admin.

It is done to the whole page, and so to every column, message, title and error, also on Django's own pages; a filter
would be forgotten in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from django.http import HttpResponse, HttpResponseBase
from django.template.response import SimpleTemplateResponse

View = TypeVar("View", bound=Callable[..., HttpResponseBase])

# Controls other than line breaks and tabs; characters that join, hide or reorder their neighbours.
_INVISIBLE = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
)
# An emoji made of several is joined by U+200D, which hides nothing there.
_EMOJI_JOINER = "(?<=[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u2190-\u2bff\U0001f000-\U0001faff])"
# Values that a form sends back stay as they are stored. Text of others can't look so: its quotes and angle brackets
# are escaped.
_FORM_VALUE = r'<textarea\b.*?</textarea>|\svalue="[^"]*"'
_ANY_INVISIBLE = re.compile(f"[{_INVISIBLE}]")
_INVISIBLE_OR_EXEMPT = re.compile(f"({_EMOJI_JOINER}|{_FORM_VALUE})|[{_INVISIBLE}]", re.DOTALL)


def reveal(html: str) -> str:
    """Return the page with `‹U+202E›` for each invisible character, so that no name passes for another."""
    if not _ANY_INVISIBLE.search(html):
        return html
    return _INVISIBLE_OR_EXEMPT.sub(lambda match: match[1] or f"‹U+{ord(match[0]):04X}›", html)


def reveal_in_pages(view: View) -> View:
    """Decorate a view: invisible characters of its HTML are revealed; form values and downloads stay as they are."""

    @wraps(view)
    def wrapped(*args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(*args, **kwargs)
        if isinstance(response, SimpleTemplateResponse):
            response.add_post_render_callback(_reveal_in_response)
        else:
            _reveal_in_response(response)
        return response

    return cast(View, wrapped)


def _reveal_in_response(response: HttpResponseBase) -> None:
    if isinstance(response, HttpResponse) and response.headers.get("Content-Type", "").startswith("text/html"):
        html = response.text
        revealed = reveal(html)
        if revealed is not html:
            response.content = revealed
