"""Text of others, made fit for a place where some characters are obeyed instead of shown."""

from __future__ import annotations

import re

# Controls, among them line breaks and what starts a terminal's escapes; overrides of a text's direction; what stands
# for bytes that are no text and can't be written out.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What Obsidian, and Dataview in it, do something about: HTML, images and embedded notes, code that is run.
_ACTS = re.compile(r"(\\*)(<(?=[A-Za-z/!?])|`(?=\s*\$?=)|(?<=!)\[)")


def one_line(text: str) -> str:
    """The text with a blank for each character that a terminal, a log or an editor would obey."""
    return _OBEYED.sub(" ", text)


def as_markdown(text: str) -> str:
    """One line of Markdown that shows the text and does nothing: no HTML, no images, no queries."""
    return _ACTS.sub(lambda found: f"{found[1] * 2}\\{found[2]}", " ".join(one_line(text).split()))
