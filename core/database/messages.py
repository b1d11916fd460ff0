"""The database's errors, as sentences that tell a person what to do."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import OperationalError


def in_words(error: OperationalError) -> str:
    """Return a sentence for whoever called; it names no path, no host and no account."""
    return str(_messages().in_words(error))


def in_words_for_the_console(error: OperationalError) -> str:
    """Return a sentence for whoever typed a command, who mostly means another installation than the one named."""
    return str(_messages().in_words_for_the_console(error)) or as_sentence(error)


def as_sentence(error: OperationalError) -> str:
    """Return `in_words` with a capital and a full stop."""
    words = in_words(error)
    return f"{words[0].upper()}{words[1:]}."


def is_about_a_lock(error: OperationalError) -> bool:
    """Return whether another writer, or another program, held what was to be written for too long."""
    return bool(_messages().is_about_a_lock(error))


def _messages() -> Any:
    return connections[DEFAULT_DB_ALIAS].messages  # type: ignore[attr-defined]
