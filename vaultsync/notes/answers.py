"""Answers that people fill into a note become those of its questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.errors import LobwifeError
from core.frontmatter import Document, Value
from tasks.questions.services import answer_question
from vaultsync.notes.layout import ANSWER, question_values

ACTOR = "the vault"


def filled_in(document: Document, ours: Mapping[str, Value]) -> dict[int, str]:
    """Return the answers that a note has and its questions don't, by the numbers of the questions."""
    answers = {}
    for key, value in ours.items():
        if key.startswith(ANSWER) and value == "":
            written = document.value(key)
            text = ", ".join(written) if isinstance(written, list) else written or ""
            if text.strip():
                answers[int(key.removeprefix(ANSWER))] = text
    return answers


def take_over(answers: Mapping[int, str], ours: dict[str, Value], author: Callable[[], str]) -> list[str]:
    """Answer the questions, and put what they have now into `ours`; return the keys of which nothing was taken over.

    Somebody else may have answered meanwhile, or the task may have ended.
    """
    refused = []
    for number, text in answers.items():
        name = author()
        try:
            question = answer_question(
                question_id=number, answer=text, actor=f"{name} in {ACTOR}" if name else ACTOR, caller=None
            )
        except LobwifeError:
            refused.append(f"{ANSWER}{number}")
        else:
            ours |= question_values(question)
    return refused
