"""What /api/docs says beside the schemas: an introduction, words for every parameter and field, examples, refusals."""

from __future__ import annotations

from typing import Any

from broker.models import Action, Outcome
from jobs.models import State, Trigger
from lobwife.api_fields import FIELDS, FIELDS_OF
from tasks.models import Status

INTRODUCTION = """
Jobs, tasks, tokens and the vault of a fleet of coding agents.

**The first call.** Make an API key in the admin under *API keys*, or with `manage.py apikey create NAME --role viewer`,
and send it with each request:

```sh
export LOBWIFE_API_KEY=lw_…
curl -H "Authorization: Bearer $LOBWIFE_API_KEY" "$LOBWIFE_URL/api/v1/tasks?limit=5"
```

On this page press **Authorize** and paste the key; who is signed in to the admin needs none.

**Who may do what.** A key has a role, and each route says below which roles may call it: `agent` (its one task),
`runner` (claims tasks and gets a key for each), `service` (creates and registers tasks), `operator` (everything),
`viewer` (reads). Pods can send their Kubernetes
token for the audience `lobwife` in place of a key.

**Answers.** Everything is JSON; times are UTC. Each error is `{"error": "a sentence that says what to do"}`: 400 for a
wrong request, 401 without a valid credential, 403 where the role may not, 404, 409 where the state does not allow it,
413 for more than 1 MiB, 429 for too many (with `Retry-After`), 503 while the database can't be used: try again. A 503
of a token says, too, when lobwife has no GitHub App: then a person has to set one up.

**Paging.** Lists take `limit`, and the header `Link` has the address of the next page. The header `X-Request-ID`
of an answer names it in the logs.

Routes without `v1` are those of the older service, which stay as they were.
"""

TAGS = [
    {"name": "tasks", "description": "Units of work for agents, and what happens to each."},
    {"name": "questions", "description": "What agents ask people, and what people answer."},
    {"name": "jobs", "description": "Scripts with a schedule."},
    {"name": "runs", "description": "Executions of jobs: start, follow, abort, retry."},
    {"name": "leases", "description": "Claiming the next task, showing that its holder is alive, handing it back."},
    {"name": "events", "description": "Everything that happens, in one order: as a list, or as a stream."},
    {"name": "broker", "description": "GitHub tokens for registered tasks and for services, and their audit."},
    {"name": "costs", "description": "What tasks used and cost, and budgets."},
    {"name": "vault", "description": "Notes of tasks, and the sync with the vault."},
    {"name": "health", "description": "Whether lobwife is well."},
]

_PARAMETERS = {
    "name": "The name of the job, such as nightly-report.",
    "task_id": "The task: 42 or T42. On routes without v1 also a slug, a name or an id that no task has.",
    "run_id": "The number of the run.",
    "status": "Only tasks with this status.",
    "type": "Only tasks of this type, such as swe, qa or research.",
    "state": "Only runs in this state.",
    "job": "Only runs of this job.",
    "limit": "At most so many.",
    "before_id": "Only what has a smaller id: the last one of the page before.",
    "before": "Only what has a smaller id: the `next` of the page before.",
    "count": "How many; at most 100.",
    "order": "`newest` first, or as in the `queue`: in the order in which they would be claimed.",
    "offset": "Where to begin, in bytes: the `next_offset` of the answer before.",
    "action": "Only entries of this kind.",
    "outcome": "Only entries that ended so.",
    "identity": "Only entries of this caller, such as key:ci.",
    "address": "Only entries from this address.",
    "token_sha256": "Only entries about the token of which this is base64(SHA-256(token)), as in GitHub's audit log.",
}
_PARAMETERS |= {
    "Idempotency-Key": "A word of your own: a repeated request with it is answered as the first, and executed once.",
    "If-Match": "The `ETag` that you read; a change since then is a 412, and nothing is overwritten.",
    "priority": "Only tasks of this priority.",
    "assigned_to": "Only tasks of this assignee.",
    "repo": "Only what concerns this repository, as owner/name.",
    "q": "Only tasks with these words in their name, slug or assignee.",
    "cursor": "Where to go on: the `next` of the page before.",
    "updated_after": "Only tasks that changed after this time, UTC.",
    "model": "Only costs of this model.",
    "since": "Only what is newer than this time, UTC.",
    "types": "Only these types, separated by commas: `task.created`, or all that begin so: `run.*`.",
    "task": "Only what concerns this task, 42 or T42.",
    "after": "Only what came after this event; without it, what comes from now on.",
    "wait": "Answer as soon as something matches, at the latest after so many seconds.",
    "Last-Event-ID": "As `after`; what a browser sends when it opens a stream again.",
    "days": "How many days, today the last.",
    "question_id": "The number of the question.",
    "open": "`true`: only what waits for an answer.",
    "wait_seconds": "Answer as soon as there is one, at the latest after so many seconds.",
}
_PARAMETER_ENUMS = {"status": Status.values, "state": State.values, "action": Action.values, "outcome": Outcome.values}

_FIELD_ENUMS: dict[tuple[str, str], list[str]] = {
    ("RunShown", "state"): State.values,
    ("RunShown", "trigger"): Trigger.values,
    ("OutputShown", "state"): State.values,
    ("NewTask", "status"): Status.values,
    ("TaskChanges", "status"): Status.values,
}

_TIME, _ISO = "2026-02-16 12:00:00", "2026-02-16T12:00:00.000000+00:00"
# Values of fields in examples, by name; what is not here is made up by its type.
_SAMPLES: dict[str, Any] = {
    "id": 42,
    "task_id": "T42",
    "name": "Fix the flaky login tests",
    "slug": "fix-login-tests",
    "type": "swe",
    "priority": "high",
    "model": None,
    "assigned_to": "lobster-swe-t42",
    "repos": ["acme/web"],
    "discord_thread_id": None,
    "estimate_minutes": 45,
    "requires_qa": False,
    "workflow": None,
    "actor": "lobboss",
    **dict.fromkeys(("created_at", "updated_at", "queued_at", "timestamp", "registered_at"), _TIME),
    **dict.fromkeys(("assigned_at", "started_at", "scheduled_for", "last_run", "next_run", "expires_at"), _ISO),
    **dict.fromkeys(("completed_at", "ended_at", "not_before", "waits_for", "signal", "retry_of"), None),
    "event_type": "note",
    "detail": "Tests pass on the branch.",
    "broker_repos": '["acme/web"]',
    "broker_status": "active",
    "broker_registered_at": _TIME,
    "token_count": 3,
    "token": "ghs_…",
    "job": "nightly-report",
    "script": "report.py",
    "schedule": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "description": "What happened today",
    "trigger": "schedule",
    "requested_by": "the schedule",
    "attempt": 1,
    "arguments": ["--full"],
    "exit_code": 3,
    "duration": 12.5,
    "note": "exit 3 · cannot open /data/yesterday.csv",
    "output_bytes": 1834,
    "node": "",
    "abort_requested_by": None,
    "text": "reading /data/yesterday.csv\n",
    "offset": 0,
    "skipped": 0,
    "next_offset": 28,
    "complete": True,
    "next": None,
    "updated": ["status"],
    "by_status": {"queued": 4, "active": 2, "completed": 120, "failed": 3, "cancelled": 1, "blocked": 0},
    "total": 130,
    "cost_usd": 0.42,
    "url": "https://github.com/acme/web/pull/206",
    "summary": "The tests wait for the page now.",
    "service": "lobboss",
    "action": "token_issued",
    "outcome": "issued",
    "identity": "key:lobster-t42",
    "address": "10.0.3.7",
    "permissions": {"contents": "write", "pull_requests": "write", "metadata": "read"},
    "reason": None,
    "lobster_type": "swe",
    "last_status": "success",
    "last_duration": 12.5,
    "last_output": "wrote 14 rows",
    "concurrency": "forbid",
    "message": "Job nightly-report triggered",
    "error": "Task T42 not found",
}
_STATUS_SAMPLES = {"RunShown": "failed", "OutputShown": "failed"}
# Bodies that callers begin with, by method and path.
_BODIES: dict[tuple[str, str], Any] = {
    ("post", "/api/v1/tasks"): {"name": "Fix the flaky login tests", "type": "swe", "repos": ["acme/web"]},
    ("patch", "/api/v1/tasks/{task_id}"): {"status": "active"},
    ("post", "/api/v1/tasks/{task_id}/events"): {"event_type": "note", "detail": "Tests pass on the branch."},
    ("post", "/api/v1/tasks/{task_id}/register"): {"repos": ["acme/web"], "lobster_type": "swe"},
    ("post", "/api/tasks/{task_id}/register"): {"repos": ["acme/web"], "lobster_type": "swe"},
    ("put", "/api/v1/tasks/{task_id}/note"): {"text": "\n# Fix the flaky login tests\n\nDone.\n"},
    ("post", "/api/v1/tasks/{task_id}/result"): {"summary": "The tests wait for the page now.", "data": {"tests": 14}},
    ("post", "/api/v1/costs"): {
        **{"task_id": "T42", "model": "claude-sonnet-4-5", "input_tokens": 1200, "output_tokens": 800},
        **{"cache_read_tokens": 50_000, "source": "session-3/turn-12"},
    },
    ("post", "/api/token"): {"task_id": "T42"},
    ("post", "/api/v1/service-token"): {"service": "lobboss"},
    ("post", "/api/v1/tasks/{task_id}/questions"): {
        "text": "May I delete the table sessions_old?",
        "choices": ["Approve", "Reject"],
    },
    ("post", "/api/v1/questions/{question_id}/answer"): {"answer": "Approve"},
    ("post", "/api/v1/jobs/{name}/runs"): {"arguments": ["--full"]},
}
_REFUSALS = {
    400: "limit must be a whole number, 0 or more",
    401: "no credential was sent: send an API key as Authorization: Bearer lw_…",
    403: "this route is for the role operator, and key:ci is a viewer",
    404: "Task T42 not found",
    409: "Job nightly-report is already running",
    412: "Task T42 is not what If-Match names: read it again, then decide anew",
    413: "the body is larger than 1 MiB",
    410: "events after 12 were removed: read what you follow anew, then go on with after=4710",
    422: "the repository acme/nowhere is not one of the installation's",
    429: "too many requests of this caller: try again in 12 s",
    502: "GitHub could not be reached",
    503: "the database is locked: try again",
}
_OVER = "Task T42 is completed: an agent changes nothing on a task that is over"
_LEASE_IS_OVER = "fence 7 of task T42 is over (expired); box-4/2 (key:box-4) holds it with fence 8"
_REFUSALS_OF = {
    **dict.fromkeys((("/api/v1/tasks", 400), ("/api/v1/tasks/{task_id}", 400)), "invalid status: sleeping"),
    **dict.fromkeys(
        ((f"/api/v1/tasks/{{task_id}}{call}", 409) for call in ("", "/events", "/links", "/result")), _OVER
    ),
    ("/api/v1/tasks", 409): "depends_on would be a cycle: T42, T43, T42",
    ("/api/v1/tasks/{task_id}/events", 400): "event_type is required",
    ("/api/v1/tasks/{task_id}/links", 400): "url must be an http or https URL",
    ("/api/v1/tasks/{task_id}/result", 400): "summary is required",
    ("/api/v1/tasks/{task_id}/note", 400): "text is required",
    ("/api/v1/tasks/{task_id}/note", 409): "the note of T42 can't be read: its frontmatter is not YAML",
    ("/api/v1/costs", 400): "model is required",
    ("/api/v1/costs", 409): "the source 'session-3/turn-12' of T42 had other numbers: name each report anew",
    ("/api/v1/runs/{run_id}/abort", 409): "run 314 is over: success",
    ("/api/v1/runs/{run_id}/retry", 409): "run 314 is not over",
    ("/api/v1/tasks/claim", 400): "lease_seconds must be less than or equal to 86400",
    (
        "/api/v1/tasks/{task_id}/questions",
        409,
    ): "Task T42 is completed: nobody answers a question about a task that is over",
    ("/api/v1/questions/{question_id}", 404): "Question 12 not found",
    ("/api/v1/questions/{question_id}/answer", 404): "Question 12 not found",
    ("/api/v1/questions/{question_id}/answer", 409): (
        "anna answered question 12 already, at 12:03 UTC on 2026-02-16: “Approve”"
    ),
    **{(f"/api/v1/tasks/{{task_id}}/{call}", 409): _LEASE_IS_OVER for call in ("heartbeat", "release")},
}


def describe(schema: dict[str, Any]) -> None:
    """Add the words and examples to an OpenAPI document."""
    schema["tags"] = TAGS
    components = schema.get("components", {}).get("schemas", {})
    for name, component in components.items():
        _describe_fields(name, component)
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                _describe_parameter(parameter)
            _describe_body(operation, method, path, components)
            for status, response in operation["responses"].items():
                _add_example(response, path, int(status), components)


def _describe_parameter(parameter: dict[str, Any]) -> None:
    name = parameter["name"]
    parameter.setdefault("description", _PARAMETERS.get(name, ""))
    if parameter["in"] == "query" and name in _PARAMETER_ENUMS:
        parameter["schema"].setdefault("enum", list(_PARAMETER_ENUMS[name]))


def _describe_body(operation: dict[str, Any], method: str, path: str, components: dict[str, Any]) -> None:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return
    body = content["schema"]
    _describe_fields(str(body.get("title", "")), body)
    content["example"] = _BODIES.get((method, path), _sample("", body, components))


def _describe_fields(owner: str, schema: dict[str, Any]) -> None:
    for name, field in schema.get("properties", {}).items():
        words = FIELDS_OF.get((owner, name)) or FIELDS.get(name)
        if words and "description" not in field:
            field["description"] = words
        values = _FIELD_ENUMS.get((owner, name))
        if values and field.get("type") == "string":
            field["enum"] = list(values)


def _add_example(response: dict[str, Any], path: str, status: int, components: dict[str, Any]) -> None:
    content = response.get("content", {}).get("application/json")
    if content is None or "example" in content:
        return
    if status == 410:
        content["example"] = {"error": _REFUSALS[status], "next": 4710}
    elif status >= 400 and not _is_health(content["schema"]):
        key = "message" if str(content["schema"].get("$ref")).endswith("/Message") else "error"
        sentence = _REFUSALS_OF.get((path, status)) or _REFUSALS.get(status, "a sentence that says what to do")
        content["example"] = {key: sentence}
    else:
        content["example"] = _sample("", content["schema"], components)


def _is_health(schema: dict[str, Any]) -> bool:
    return not str(schema.get("$ref", "/Problem")).endswith(("/Problem", "/Message"))


def _sample(name: str, schema: dict[str, Any], components: dict[str, Any], owner: str = "") -> Any:
    """Return a value that fits a schema, as a caller might see it."""
    if "$ref" in schema:
        owner = schema["$ref"].rpartition("/")[2]
        return _sample(name, components.get(owner, {}), components, owner)
    if "example" in schema:
        return schema["example"]
    if name == "state":
        return _STATUS_SAMPLES.get(owner, "up to date")
    if name == "status":
        return "active" if "Task" in owner else "ok"
    if schema.get("enum"):
        return schema["enum"][0]
    kinds = schema.get("anyOf") or schema.get("allOf")
    if name in _SAMPLES and _fits(_SAMPLES[name], schema, kinds):
        return _SAMPLES[name]
    if kinds:
        first: dict[str, Any] = next((each for each in kinds if each.get("type") != "null"), {})
        return _sample(name, first, components, owner)
    match next(iter(_types(schema)), ""):
        case "object":
            properties = schema.get("properties")
            if properties is None:
                extra = schema.get("additionalProperties")
                return {"nightly-report": _sample("", extra, components)} if isinstance(extra, dict) else {}
            return {key: _sample(key, each, components, owner) for key, each in properties.items()}
        case "array":
            return [_sample("", schema.get("items", {}), components)]
        case "integer":
            return schema.get("default", 1)
        case "number":
            return 1.5
        case "boolean":
            return True
    return ""


def _fits(value: Any, schema: dict[str, Any], kinds: list[dict[str, Any]] | None) -> bool:
    """Return whether a sample is of the schema's type."""
    allowed = {name for each in kinds or [schema] for name in _types(each)}
    kind: dict[type[Any], str] = {
        **{bool: "boolean", int: "integer", float: "number"},
        **{str: "string", list: "array", type(None): "null"},
    }
    named = kind.get(type(value), "object")
    return named in allowed or (named == "integer" and "number" in allowed) or not allowed


def _types(schema: dict[str, Any]) -> list[str]:
    """Return the names of the types that a schema allows; none where it says nothing of them."""
    named = schema.get("type") or []
    return [named] if isinstance(named, str) else list(named)
