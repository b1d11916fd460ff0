"""Report how the fleet is. What could not be learned is shown as unknown, never as 0."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from lobwife_client import Client, LobwifeError

from . import cluster, discord, github
from .script import Report, ToolError, connect, minutes_since, now, parse, parser

NAME = "lobmob-status-reporter"
UNKNOWN = "unknown"
_EVERY = timedelta(minutes=30)  # how far back the first report looks
_FAILING = ("failed", "timeout", "error")
_NODE_MONTHLY_USD = 24.0
_LATE_SYNC_MINUTES = 15
_MOST_NAMED = 10
Value = TypeVar("Value")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 1 when lobwife does not answer, a tool failed, or Discord took no report."""
    options = parser(NAME, __doc__)
    options.add_argument("--format", choices=("markdown", "json"), default="markdown", help="of what is printed")
    chosen = options.parse_args(arguments)
    report = Report(dry_run=chosen.dry_run)
    try:
        facts = Facts(connect(), report).all()
    except LobwifeError as error:
        report.fail(str(error))
        return 1
    text = as_markdown(facts)
    print(json.dumps(facts) if chosen.format == "json" else text)
    outcome = _post(text, report)
    if chosen.format != "json":
        print(f"{NAME}: {outcome}{'; with failures' if report.failed else ''}")
    return 1 if report.failed else 0


class Facts:
    """Asks everyone; a part that gives no answer is unknown and keeps no other from being asked."""

    def __init__(self, client: Client, report: Report) -> None:
        self.client = client
        self.report = report

    def all(self) -> dict[str, Any]:
        """Return the whole report; raises LobwifeError only when lobwife does not answer at all."""
        repo = github.vault_repo()
        nodes = self._ask(cluster.node_count)
        return {
            "at": now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "agents": self._ask(cluster.lobsters),
            "tasks": self._ask(lambda: self.client.task_counts()["by_status"]),
            "oldest_queued": self._ask(self._oldest_queued),
            "failed_since_last_report": self._ask(self._failed),
            "open_pull_requests": self._ask(lambda: github.count_open_pulls(repo)) if repo else UNKNOWN,
            "tokens_issued": self._ask(lambda: int(self.client.status()["broker"]["total_tokens_issued"])),
            "jobs_failing": self._ask(self._failing_jobs),
            "vault_sync": self._ask(self._vault_sync),
            "nodes": nodes,
            "monthly_cost_usd": _cost(nodes) if isinstance(nodes, int) else UNKNOWN,
        }

    def _ask(self, question: Callable[[], Value]) -> Value | str:
        try:
            return question()
        except ToolError as error:
            self.report.skip(error, "skipped")
        except LobwifeError as error:
            if not error.status:
                raise
            self.report.fail(str(error))
        except (KeyError, TypeError, ValueError, AttributeError):
            self.report.fail("an answer of lobwife's was not understood")
        return UNKNOWN

    def _oldest_queued(self) -> dict[str, Any] | None:
        queued = [(parse(task["created_at"]), task) for task in self.client.tasks(status="queued")]
        dated = [(moment, task["id"], task) for moment, task in queued if moment]
        if not dated:
            return None
        moment, _, task = min(dated)
        return {"task": task["task_id"], "name": task["name"], "minutes": round(minutes_since(moment))}

    def _failed(self) -> list[dict[str, Any]]:
        since = self._last_report()
        failed = self.client.tasks(status="failed")
        return [
            {"task": task["task_id"], "name": task["name"]}
            for task in failed
            if (moment := parse(task["completed_at"]) or parse(task["updated_at"])) and moment > since
        ]

    def _last_report(self) -> datetime:
        """Return when the job that this is last began a run that succeeded; half an hour ago for the first."""
        job = os.environ.get("LOBWIFE_JOB") or "status-reporter"
        runs = self.client.runs(job=job, state="success", limit=1)
        return (parse(runs[0]["started_at"]) if runs else None) or now() - _EVERY

    def _failing_jobs(self) -> list[str]:
        return [name for name, job in self.client.jobs().items() if job["last_status"] in _FAILING]

    def _vault_sync(self) -> str:
        sync = self.client.sync()
        if not sync["enabled"]:
            return "off"
        last = parse(sync["last_sync"])
        if last is None:
            return "behind: it has not synced yet"
        if minutes_since(last) > _LATE_SYNC_MINUTES:
            return f"behind: last synced {minutes_since(last):.0f} minutes ago"
        ahead = (sync.get("remote") or {}).get("commits_ahead") or 0
        return f"behind: {ahead} commits are not pushed" if ahead else "up to date"


def _cost(nodes: int) -> float:
    """Return the price of the nodes, and of one more for the control plane."""
    try:
        price = float(os.environ.get("LOBMOB_NODE_MONTHLY_USD") or _NODE_MONTHLY_USD)
    except ValueError:
        price = _NODE_MONTHLY_USD
    return round((nodes + 1) * price, 2)


def as_markdown(facts: dict[str, Any]) -> str:
    """Return the report as people read it in Discord."""
    oldest, failed, failing, cost = (
        facts[name] for name in ("oldest_queued", "failed_since_last_report", "jobs_failing", "monthly_cost_usd")
    )
    agents, tasks = facts["agents"], facts["tasks"]
    if isinstance(oldest, dict):
        oldest = f"{oldest['task']} {_plain(oldest['name'])}, {oldest['minutes']} minutes"
    lines = [
        f"**Fleet at {facts['at']}**",
        f"- agents running: {_by_kind(agents, 'running')}; pending: {_by_kind(agents, 'pending')}",
        "- tasks: " + (tasks if tasks == UNKNOWN else ", ".join(f"{tasks[name]} {name}" for name in tasks)),
        f"- oldest queued: {oldest or 'none'}",
        "- failed since the last report: " + (failed if failed == UNKNOWN else _named(failed)),
        f"- open pull requests: {facts['open_pull_requests']}",
        f"- tokens issued: {facts['tokens_issued']}",
        "- jobs failing: " + (failing if failing == UNKNOWN else ", ".join(failing) or "none"),
        f"- vault sync: {facts['vault_sync']}",
        "- cost: " + (UNKNOWN if cost == UNKNOWN else f"about {cost:.0f} USD a month, {facts['nodes']} nodes"),
    ]
    return "\n".join(lines)


def _by_kind(agents: Any, phase: str) -> str:
    if agents == UNKNOWN:
        return UNKNOWN
    counts: dict[str, int] = agents[phase]
    parts = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    return f"{sum(counts.values())} ({parts})" if counts else "0"


def _named(failed: list[dict[str, Any]]) -> str:
    named = ", ".join(f"{task['task']} {_plain(task['name'])}" for task in failed[:_MOST_NAMED])
    return f"{len(failed)} ({named}{', …' if len(failed) > _MOST_NAMED else ''})" if failed else "0"


def _plain(name: str) -> str:
    return " ".join(str(name).split())[:60]


def _post(text: str, report: Report) -> str:
    channel = os.environ.get("DISCORD_CHANNEL_SWARM_LOGS") or os.environ.get("SWARM_LOGS_CHANNEL_ID") or "0"
    if channel == "0" or not discord.configured():
        return "reported, not posted: no bot or no channel is set"
    if report.dry_run:
        return "would be posted to Discord (dry run)"
    try:
        discord.post(channel, text)
    except discord.DiscordError as error:
        report.fail(str(error))
        return "reported, not posted"
    return "reported and posted to Discord"
