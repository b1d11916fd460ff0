"""The bodies and answers of costs."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from ninja import Schema
from pydantic import AfterValidator, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError

from core.text import as_number
from tasks.costs.models import TOKENS
from tasks.costs.services import Report
from tasks.schemas import LONGEST_REPO, Body, Integer, text_up_to

_TASK_ID = re.compile(r"T?(\d{1,18})", re.ASCII)
_MOST_TOKENS = 10**10
_MOST_DOLLARS = 100_000
_CENTS_OF_CENTS = Decimal("0.000001")


def _error(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("lobwife", sentence)


def _task_id(value: Any) -> int:
    match = _TASK_ID.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if match is None:
        raise _error("must be a task's id, such as T42")
    return int(match[1])


def _required(longest: int) -> Any:
    def check(value: Any) -> str:
        text = str(text_up_to(longest)(value)).strip()
        if not text:
            raise _error("is required")
        return text

    return check


def _tokens(value: int) -> int:
    if not 0 <= value <= _MOST_TOKENS:
        raise _error("must be a number of tokens, 0 or more")
    return value


def _dollars(value: Any) -> Decimal | None:
    if value is None:
        return None
    amount = None if isinstance(value, bool) else as_number(value)
    if amount is None or not 0 <= amount <= _MOST_DOLLARS:
        raise _error(f"must be an amount in US dollars, from 0 to {_MOST_DOLLARS:,}")
    return Decimal(str(amount)).quantize(_CENTS_OF_CENTS)


Tokens = Annotated[Integer, AfterValidator(_tokens)]


class NewCost(Body):
    """The body of `POST /api/v1/costs`."""

    model_config = ConfigDict(json_schema_extra={"required": ["task_id", "model"]})

    task_id: Annotated[
        int, BeforeValidator(_task_id), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]})
    ]
    model: Annotated[str, BeforeValidator(_required(200))]
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    cost_usd: Annotated[Decimal | None, BeforeValidator(_dollars), WithJsonSchema({"type": ["number", "null"]})] = None
    repo: Annotated[str, BeforeValidator(text_up_to(LONGEST_REPO))] | None = None
    source: Annotated[str, BeforeValidator(_required(200))] | None = None

    def report(self) -> Report:
        """Return what was reported, as the service takes it."""
        tokens = {name: getattr(self, name) for name in TOKENS}
        return Report(self.model, tokens, self.cost_usd, self.repo, self.source)


class CostRecorded(Schema):
    """A report as it is recorded; `cost_usd` is null until the price is looked up."""

    id: int
    task_id: str
    cost_usd: float | None
    budget: str | None  # the sentence about a budget of the task that is spent


class CostShown(Schema):
    """A report of what a task has used."""

    id: int
    task_id: str
    type: str
    repo: str | None
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float | None
    price: str
    source: str | None
    recorded_at: str


class Spent(Schema):
    """What was spent, and the tokens; `unpriced` reports are not in `cost_usd`."""

    cost_usd: float
    reports: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int


class SpentByDay(Spent):
    day: str


class SpentByType(Spent):
    type: str


class SpentByModel(Spent):
    model: str


class SpentByRepo(Spent):
    repo: str


class CostSummary(Schema):
    """What was spent since a day."""

    since: str
    total: Spent
    by_day: list[SpentByDay]
    by_type: list[SpentByType]
    by_model: list[SpentByModel]
    by_repo: list[SpentByRepo]
