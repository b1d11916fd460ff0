"""Output of scripts as HTML."""

from __future__ import annotations

import pytest

from jobs.execution.ansi import plain_text, read_style, style_text, to_html


@pytest.mark.parametrize(
    ("output", "html", "style"),
    [
        ("plain", "plain", ""),
        ("<b>&", "&lt;b&gt;&amp;", ""),
        ("\x1b[31mred\x1b[0m after", '<span class="ansi-31">red</span> after', ""),
        ("\x1b[1;31mboth\x1b[22mred", '<span class="ansi-1 ansi-31">both</span><span class="ansi-31">red</span>', "31"),
        ("\x1b[31m\x1b[32mone", '<span class="ansi-32">one</span>', "32"),
        ("\x1b[41m\x1b[31mboth\x1b[49m", '<span class="ansi-31 ansi-41">both</span>', "31"),
        ("\x1b[38;5;208mof many\x1b[39m", '<span class="ansi-4008">of many</span>', ""),
        ("\x1b[38;2;255;135;0mnearest\x1b[0m", '<span class="ansi-4008">nearest</span>', ""),
        ("\x1b[48;2;1;2;3mdark", '<span class="ansi-4816">dark</span>', "4816"),
        ("\x1b[38;5;999mno colour \x1b[38;2;1mnone", "no colour none", ""),
        ("\x1b[7minverse\x1b[27m", '<span class="ansi-7">inverse</span>', ""),
        (
            "see https://example.com/a?b=1&c=<i>.",
            'see <a href="https://example.com/a?b=1&amp;c=" rel="noopener noreferrer nofollow" target="_blank">'
            "https://example.com/a?b=1&amp;c=</a>&lt;i&gt;.",
            "",
        ),
        ("javascript:alert(1)", "javascript:alert(1)", ""),
        ("\x1b[mreset", "reset", ""),
        ("\x1b[999999999999munknown", "unknown", ""),
        ("\x1b[2J\x1b[Hscreen\x1b]0;title\x07 bell\x07", "screen bell", ""),
    ],
)
def test_colours_become_classes_and_all_else_is_left_out(output: str, html: str, style: str) -> None:
    assert to_html(output) == (html, read_style(style))


def test_a_colour_goes_on_in_the_next_part() -> None:
    _, style = to_html("\x1b[1;32mgreen")
    assert style_text(style) == "1.32"
    assert to_html("still", read_style("1.32"))[0] == '<span class="ansi-1 ansi-32">still</span>'


@pytest.mark.parametrize("sent", ["", "x", "5", "31<script>", "٣١", "-1", "1e3", "31" * 5000])
def test_a_style_that_nobody_wrote_is_none(sent: str) -> None:
    assert read_style(sent) == frozenset()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("10 %\r50 %\r100 %\ndone\n", "100 %\ndone\n"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("kept\r", "kept"),
        ("\x1b[31mred\x1b[0m\x00\x07", "red"),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_plain_text_has_each_line_as_it_stood_last(output: str, text: str) -> None:
    assert plain_text(output) == text
