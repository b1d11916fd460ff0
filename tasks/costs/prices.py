"""Prices that callers don't know: looked up for many costs at once, by a short-lived process.

The list of prices takes a second to load and more memory than all of web: it is loaded nowhere else.
"""

from __future__ import annotations

import json
import logging
import pathlib
import subprocess
import sys
from decimal import Decimal

from core.errors import Unavailable
from tasks.costs.models import TOKENS, Cost, Price
from tasks.costs.services import set_prices

_PROGRAM = str(pathlib.Path(__file__).parent / "price_list.py")
_TIMEOUT_SECONDS = 60
_BATCH = 500
log = logging.getLogger(__name__)


class Pricer:
    """Gives costs without a price the one of the list, for the daemon's loop."""

    def tick(self) -> bool:
        """Look up the prices of one batch; return True when there may be more. Raises Unavailable."""
        pending = list(Cost.objects.filter(price=Price.PENDING).order_by("id")[:_BATCH])
        if not pending:
            return False
        set_prices(_look_up(pending))
        return len(pending) == _BATCH


def _look_up(costs: list[Cost]) -> dict[int, Decimal | None]:
    """Return the prices of costs by their ids, None for a model that the list does not have; raises Unavailable."""
    lines = [
        json.dumps(
            {"id": cost.pk, "model": cost.model, "at": cost.recorded_at.isoformat()}
            | {name: getattr(cost, name) for name in TOKENS}
        )
        for cost in costs
    ]
    try:
        done = subprocess.run(
            [sys.executable, "-I", _PROGRAM],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        raise Unavailable(f"the list of prices can't be asked: {str(reason).strip()[-300:]}") from None
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {answer["id"]: Decimal(answer["usd"]) if answer["usd"] is not None else None for answer in answers}
