"""What the broker's pages in the admin share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import admin
from django.utils.text import capfirst

from core.display import span

NAME_SHOWN = 80
NONE = "–"
_REPOSITORIES_SHOWN = 5


class Worded(admin.ChoicesFieldListFilter):
    """The choices as words in a sentence, not as titles."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        for each in super().choices(changelist):
            yield {**each, "display": capfirst(str(each["display"]).lower())}


def first(repositories: Sequence[str]) -> str:
    """As many names as fit a list, and how many more there are."""
    more = len(repositories) - _REPOSITORIES_SHOWN
    shown = ", ".join(repositories[:_REPOSITORIES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def clock(skew: int) -> str:
    """How far GitHub's clock is from ours; seconds that it is ahead."""
    return f"{span(abs(skew))} {'ahead' if skew > 0 else 'behind'}" if abs(skew) > 1 else "as ours"
