"""REST routes of costs."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router

from core.callers import caller_of
from core.errors import Invalid
from core.rest import (
    Problem,
    integer_parameter,
    json_body,
    json_response,
    link_next,
    parameters,
    query_parameter,
    request_body,
    time_parameter,
    validate,
)
from tasks.costs import queries, services
from tasks.costs.schemas import CostRecorded, CostShown, CostSummary, NewCost
from tasks.costs.spent import spent_budget_of
from tasks.ids import parse_path_id

router = Router(tags=["costs"])
_WHOLE: dict[str, Any] = {"type": "integer", "minimum": 0}
_DEFAULT_LIMIT, _LARGEST_LIMIT = 100, 500
_DEFAULT_DAYS, _MOST_DAYS = 30, 366


@router.post(
    "/v1/costs",
    response={
        **{200: CostRecorded, 201: CostRecorded, 400: Problem, 404: Problem},
        **{409: Problem, 413: Problem, 503: Problem},
    },
    openapi_extra=request_body(
        NewCost,
        {"task_id": "T1", "model": "claude-sonnet-4-5", "input_tokens": 1200, "output_tokens": 800}
        | {"cache_read_tokens": 50_000, "cost_usd": 0.0306, "source": "session-3/turn-12"},
    ),
)
def record_cost(request: HttpRequest) -> HttpResponse:
    """Record what a task has used since its last report. A repeat with the same `source` counts once and answers 200.

    Without `cost_usd` the price is looked up, in some seconds.
    """
    body = validate(NewCost, json_body(request))
    cost, is_new = services.record_cost(task_id=body.task_id, report=body.report(), caller=caller_of(request))
    answer = {
        "id": cost.pk,
        "task_id": f"T{cost.task_id}",
        "cost_usd": queries.as_float(cost.cost_usd),
        "budget": spent_budget_of(cost.task_id),
    }
    return json_response(answer, 201 if is_new else 200)


@router.get(
    "/v1/costs",
    response={200: list[CostShown], 400: Problem, 404: Problem, 503: Problem},
    openapi_extra={
        "parameters": parameters(
            *("task_id", "type", "model", "repo"),
            since={"type": "string", "format": "date-time"},
            limit={**_WHOLE, "default": _DEFAULT_LIMIT},
            before_id=_WHOLE,
        )
    },
)
def list_costs(request: HttpRequest) -> HttpResponse:
    """List costs, newest first, at most 500; the header `Link` has the address of the next page.

    An agent sees those of its own task alone.
    """
    caller = caller_of(request)
    text = query_parameter(request, "task_id")
    number = parse_path_id(text) if text is not None else None
    if number is not None:
        caller.require_task(number, name=f"T{number}")
    elif caller.is_agent:
        number = caller.task_id or 0
    page = queries.cost_list(
        task_id=number,
        **{name: query_parameter(request, name) for name in ("type", "model", "repo")},
        since=time_parameter(request, "since"),
        before_id=integer_parameter(request, "before_id", None),
        limit=min(integer_parameter(request, "limit", _DEFAULT_LIMIT), _LARGEST_LIMIT),
    )
    response = json_response([queries.as_json(cost) for cost in page.costs])
    if page.before_id is not None:
        link_next(request, response, before_id=page.before_id)
    return response


@router.get(
    "/v1/costs/summary",
    response={200: CostSummary, 400: Problem, 503: Problem},
    openapi_extra={
        "parameters": parameters(
            days={"type": "integer", "minimum": 1, "maximum": _MOST_DAYS, "default": _DEFAULT_DAYS}
        )
    },
)
def summarize_costs(request: HttpRequest) -> HttpResponse:
    """Sum up what was spent in the last days, by day, type, model and repository."""
    days = integer_parameter(request, "days", _DEFAULT_DAYS)
    if not 1 <= days <= _MOST_DAYS:
        raise Invalid(f"days must be a whole number from 1 to {_MOST_DAYS}")
    return json_response(queries.summary_as_json(queries.summary(days)))
