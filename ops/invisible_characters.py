"""Views of the admin whose pages hide no character of what programs and repositories wrote.

It is done to the whole page, and so to every column, message, title and error, also to those of Django's own pages; a
filter would be forgotten at one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from django.http import HttpResponse, HttpResponseBase
from django.template.response import SimpleTemplateResponse

from core.text import with_unseen_shown

View = TypeVar("View", bound=Callable[..., HttpResponseBase])


def shown(view: View) -> View:
    """The view, with what its HTML would hide made visible; what is stored, sent back and downloaded stays as it is."""

    @wraps(view)
    def wrapped(*args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(*args, **kwargs)
        if isinstance(response, SimpleTemplateResponse):
            response.add_post_render_callback(_show)
        else:
            _show(response)
        return response

    return cast(View, wrapped)


def _show(response: HttpResponseBase) -> None:
    if isinstance(response, HttpResponse) and response.headers.get("Content-Type", "").startswith("text/html"):
        html = response.text
        visible = with_unseen_shown(html)
        if visible is not html:
            response.content = visible
