"""A task's note on its page, as HTML. Anybody who may push to the vault may have written it: no HTML of it passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template
from django.conf import settings
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

from core import frontmatter
from tasks.models import Task
from vaultsync import queries
from vaultsync.git.files import Blocked, Files

register = template.Library()
_MOST_BYTES = 200_000
_FIRST_LEVEL = 3  # of a note's headings on a page that has its own
_LINK = {"rel": "noopener noreferrer nofollow", "target": "_blank"}


@register.inclusion_tag("admin/vaultsync/task_note.html")
def task_note(task: Task) -> dict[str, Any]:
    """Render a task's note, where it is in the vault, and whether both say the same."""
    status = queries.note_status(task)
    try:
        content = Files(settings.VAULT_PATH).read(status.path, _MOST_BYTES)
        text = frontmatter.parse(content.decode(errors="replace")).body
    except (OSError, Blocked, frontmatter.Unsafe):
        return {"note": status, "has_text": False, "html": ""}
    return {"note": status, "has_text": True, "html": as_html(text)}


def as_html(text: str) -> SafeString:
    """Return Markdown as HTML in which only links to web pages and mail lead anywhere."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    tokens = parser.parse(text)
    _adapt(tokens)
    html: str = parser.renderer.render(tokens, parser.options, {})
    return mark_safe(html)  # noqa: S308 with html off all is escaped


def _adapt(tokens: Sequence[Token]) -> None:
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + _FIRST_LEVEL - 1)}"
        elif token.type == "link_open":
            for name, value in _LINK.items():
                token.attrSet(name, value)
        elif "style" in token.attrs:  # the alignment of a table's column
            del token.attrs["style"]
        _adapt(token.children or ())
