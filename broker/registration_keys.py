"""Whose a registration or a token is, as one text: `task:42`, `legacy:ID` or `service:NAME`."""

from __future__ import annotations


def of_task(number: int) -> str:
    return f"task:{number}"


def of_legacy(task_id: str) -> str:
    return f"legacy:{task_id}"


def of_service(name: str) -> str:
    return f"service:{name}"


def task_number(subject: str) -> int | None:
    """The number of the task whose it is; None when it is no task's."""
    kind, _, key = subject.partition(":")
    return int(key) if kind == "task" else None


def legacy_id(subject: str) -> str:
    """The id in the old table, of a subject that is no task's."""
    return subject.partition(":")[2]
