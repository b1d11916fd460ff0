"""The withdrawal of questions, within the transaction that ends their task."""

from __future__ import annotations

from core.timestamps import utc_now
from tasks.questions.models import Question


def withdraw_open(task_id: int) -> None:
    """Withdraw the open questions of a task that is over."""
    Question.objects.open().filter(task_id=task_id).update(withdrawn_at=utc_now())
