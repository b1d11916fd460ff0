"""Text of others, made fit for a place where some characters are obeyed instead of shown."""

from __future__ import annotations

import re

# Controls, among them line breaks and what starts a terminal's escapes; overrides of a text's direction; what stands
# for bytes that are no text and can't be written out.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What Obsidian, and Dataview in it, do something about: HTML, images and embedded notes, code that is run.
_ACTS = re.compile(r"(\\*)(<(?=[A-Za-z/!?])|`(?=\s*\$?=)|(?<=!)\[)")

# What has no shape of its own: controls that are no line break or tab; what joins, hides or reorders its neighbours.
_UNSEEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
)
# A picture made of several is joined by U+200D, which hides nothing there.
_JOINED = "(?<=[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u2190-\u2bff\U0001f000-\U0001faff])"
# What a form would send back stays as it is stored. Text of others can't look so: its quotes and angles are escaped.
_SENT_BACK = r'<textarea\b.*?</textarea>|\svalue="[^"]*"'
_UNSEEN_IN_HTML = re.compile(f"({_JOINED}|{_SENT_BACK})|[{_UNSEEN}]", re.DOTALL)
_ANY_UNSEEN = re.compile(f"[{_UNSEEN}]")


def one_line(text: str) -> str:
    """The text with a blank for each character that a terminal, a log or an editor would obey."""
    return _OBEYED.sub(" ", text)


def as_markdown(text: str) -> str:
    """One line of Markdown that shows the text and does nothing: no HTML, no images, no queries."""
    return _ACTS.sub(lambda found: f"{found[1] * 2}\\{found[2]}", " ".join(one_line(text).split()))


def with_unseen_shown(html: str) -> str:
    """The page with `‹U+202E›` for each character that nobody sees, so that no name passes for another; forms stay."""
    if not _ANY_UNSEEN.search(html):
        return html
    return _UNSEEN_IN_HTML.sub(lambda found: found[1] or f"‹U+{ord(found[0]):04X}›", html)
