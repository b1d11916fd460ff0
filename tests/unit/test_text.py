"""Text of others in places where some characters are obeyed."""

from __future__ import annotations

import pytest

from core.text import escape_markdown, one_line


@pytest.mark.parametrize("obeyed", ["\n", "\r", "\x1b", "\x00", "\x85", "\u2028", "\u202e", "\u2066", "\ud800"])
def test_one_line_has_a_blank_for_each_character_that_is_obeyed(obeyed: str) -> None:
    assert one_line(f"a{obeyed}b") == "a b"


@pytest.mark.parametrize("text", ["Fix the parser", "wörk 🦞", "a\u00a0b", "-x"])
def test_one_line_leaves_all_else(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("plain  and\n\nlong", "plain and long"),
        ("<script>", "\\<script>"),
        ("\\<b>", "\\\\\\<b>"),
        ("1 < 2", "1 < 2"),
        ("![[note]]", "!\\[[note]]"),
        ("[link](there)", "[link](there)"),
        ("`= dv.pages()`", "\\`= dv.pages()`"),
        ("`$= 1`", "\\`$= 1`"),
        ("`code`", "`code`"),
    ],
)
def test_markdown_shows_the_text_and_does_nothing(text: str, markdown: str) -> None:
    assert escape_markdown(text) == markdown
