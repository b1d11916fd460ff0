"""A note as HTML. Anybody who may push to the vault may have written it: no HTML, images or scripts of it pass."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

from vaultsync.git.files import Blocked, Files
from vaultsync.notes import frontmatter

_MOST_BYTES = 200_000
_FIRST_LEVEL = 3  # of a note's headings on a page that has its own
_LINK = {"rel": "noopener noreferrer nofollow", "target": "_blank"}


def read_note(path: str) -> str | None:
    """Return the text of a note without its frontmatter, as the working copy has it; None if it can't be read."""
    try:
        content = Files(settings.VAULT_PATH).read(path, _MOST_BYTES)
        return frontmatter.parse(content.decode(errors="replace")).body
    except (OSError, Blocked, frontmatter.Unsafe):
        return None


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
