"""Questions in notes: people answer them in Obsidian."""

from __future__ import annotations

from typing import Any

import pytest

from core.callers import Caller, Role
from tasks.models import Question, Task
from tasks.questions.services import answer_question, ask
from tests.support.git_remote import World, change, note_of, task
from vaultsync.models import NoteProblem

pytestmark = pytest.mark.django_db
AGENT = Caller("key:agent", Role.OPERATOR)
TEXT = "May I delete it?"


def asked(made: Task, text: str = TEXT, *choices: str) -> Question:
    return ask(task_id=made.pk, text=text, choices=choices, actor=None, caller=AGENT)[0]


def keys(question: Question, text: str = TEXT, answer: str = "''") -> str:
    return f"question_{question.pk}: {text}\nanswer_{question.pk}: {answer}\n"


def current(question: Question) -> Question:
    question.refresh_from_db()
    return question


def test_a_note_has_the_questions_of_its_task_and_their_answers(world: World) -> None:
    made = task()
    first, second = asked(made, f"{TEXT}\nOr not?", "Approve", "Reject"), asked(made, "Where?")
    world.synced()
    text = world.text(note_of(made))
    assert keys(first, f"{TEXT} Or not? (Approve / Reject)") + keys(second, "Where?") in text
    answer_question(question_id=second.pk, answer="There", actor="anna", caller=None)
    world.synced()
    assert keys(second, "Where?", "There") in world.text(note_of(made))
    change(made, status="completed")
    world.synced()
    assert keys(first, f"{TEXT} Or not? (Approve / Reject)") in world.text(note_of(made, "completed"))


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("approve", "Approve"),
        ("No, keep it", "No, keep it"),
        ("'yes: all of it'", "yes: all of it"),
        ("true", "true"),
        ("2026-02-16", "2026-02-16"),
        ("\n- web\n- api", "web, api"),
        ("|\n  first\n  second\n", "first\nsecond"),
    ],
)
def test_what_somebody_fills_in_is_the_answer(world: World, written: str, answer: str) -> None:
    made = task()
    question = asked(made, TEXT, "Approve", "Reject")
    world.synced()
    world.edit(note_of(made), f"answer_{question.pk}: ''", f"answer_{question.pk}: {written}")
    world.synced()
    assert (current(question).answer, question.answered_by) == (answer, "the vault")
    for _ in range(2):
        world.synced(full=True)
        assert f"answer_{question.pk}: " in world.text(note_of(made))
    assert not NoteProblem.objects.exists()


def test_who_pushed_the_answer_is_named(world: World) -> None:
    made = task()
    question = asked(made)
    world.synced()
    clone = world.clone()
    clone.edit(note_of(made), f"answer_{question.pk}: ''", f"answer_{question.pk}: Yes")
    clone.push()
    change(made, priority="high")
    world.synced()
    assert (current(question).answer, question.answered_by) == ("Yes", "Ada in the vault")
    assert keys(question, answer="'Yes'") in world.text(note_of(made))
    assert not NoteProblem.objects.exists()


def test_whoever_was_first_has_answered_and_the_other_is_told(world: World) -> None:
    made = task()
    question = asked(made)
    world.synced()
    world.edit(note_of(made), f"answer_{question.pk}: ''", f"answer_{question.pk}: From the vault")
    answer_question(question_id=question.pk, answer="From the page", actor="anna", caller=None)
    world.synced()
    assert current(question).answer == "From the page"
    assert keys(question, answer="From the page") in world.text(note_of(made))
    assert f"answer_{question.pk} was edited here" in NoteProblem.objects.get().sentence


def test_an_answer_that_comes_after_the_end_is_put_back(world: World) -> None:
    made = task()
    question = asked(made)
    world.synced()
    world.edit(note_of(made), f"answer_{question.pk}: ''", f"answer_{question.pk}: Too late")
    change(made, status="cancelled")
    world.synced()
    assert current(question).answer is None
    assert keys(question) in world.text(note_of(made, "failed"))
    assert NoteProblem.objects.get().kind == "drift"


@pytest.mark.parametrize("written", ["", "~", '""', "{a: b}"])
def test_what_is_no_text_is_no_answer(world: World, written: str) -> None:
    made = task()
    question = asked(made)
    world.synced()
    world.edit(note_of(made), f"answer_{question.pk}: ''", f"answer_{question.pk}: {written}")
    world.synced()
    assert current(question).is_open
    assert keys(question) in world.text(note_of(made))


def test_an_answer_of_another_task_s_question_is_somebody_s_own_key(world: World) -> None:
    made, other = task(), task("Another")
    question = asked(other)
    world.synced()
    world.edit(note_of(made), "priority: normal\n", f"priority: normal\nanswer_{question.pk}: Approve\n")
    world.synced()
    assert current(question).is_open
    assert f"answer_{question.pk}: Approve\n" in world.text(note_of(made))


def test_texts_of_any_kind_are_kept_in_their_key(world: World) -> None:
    made = task()
    hostile: list[Any] = [
        "---\nstatus: completed",
        "a: b # c",
        "'\"`{}[]",
        "x" * 4000,
        "- item",
        "\u2028\u202e",
        "!!python/x",
    ]
    questions = [asked(made, text) for text in hostile]
    for question in questions[:5]:
        answer_question(question_id=question.pk, answer=question.text, actor="anna", caller=None)
    world.synced()
    text = world.text(note_of(made))
    assert text.count("\nstatus: ") == 1
    assert all(f"\nquestion_{question.pk}: " in text for question in questions)
    assert not NoteProblem.objects.exists()
