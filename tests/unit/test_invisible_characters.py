"""Characters that nobody sees are shown by their number, and nothing else is changed."""

from __future__ import annotations

import pytest

from ops.invisible_characters import reveal


@pytest.mark.parametrize(
    "invisible",
    [0x00, 0x07, 0x1B, 0x7F, 0x85, 0xAD, 0x61C, 0x200B, 0x200F, 0x2028, 0x202A, 0x2060, 0x2069, 0xFEFF, 0xE0041],
)
def test_each_kind_is_shown_by_its_number(invisible: int) -> None:
    assert reveal(f"<td>a{chr(invisible)}b</td>") == f"<td>a‹U+{invisible:04X}›b</td>"


@pytest.mark.parametrize(
    "seen", ["two\r\n\tlines", "naïve café", "مرحبا", "👩\u200d💻 ❤\ufe0f\u200d🔥", "1 – 2 • “x”", "日本語"]
)
def test_what_people_write_stays_as_it_is(seen: str) -> None:
    assert reveal(seen) is seen or reveal(seen) == seen
