"""The fleet's jobs, pods and nodes in Kubernetes, by kubectl."""

from __future__ import annotations

import os
import re
from typing import Any

from .script import Failed, run_json

LOBSTERS = "app.kubernetes.io/name=lobster"
_TYPE_LABELS = ("lobmob.io/lobster-type", "lobmob.io/type", "lobster-type")


def namespace() -> str:
    return os.environ.get("LOBMOB_NAMESPACE") or "lobmob"


def lobster_jobs() -> set[str]:
    """Return the names of the lobsters' jobs in any state; raises Missing or Failed."""
    return {_name(item) for item in _items("jobs", "-n", namespace(), "-l", LOBSTERS)}


def lobsters() -> dict[str, dict[str, int]]:
    """Count running and pending lobsters by type; raises Missing or Failed."""
    counts: dict[str, dict[str, int]] = {"running": {}, "pending": {}}
    for pod in _items("pods", "-n", namespace(), "-l", LOBSTERS):
        status = pod.get("status")
        phase = str(status.get("phase", "")).lower() if isinstance(status, dict) else ""
        if phase in counts:
            kind = _type_of(pod)
            counts[phase][kind] = counts[phase].get(kind, 0) + 1
    return counts


def node_count() -> int:
    """Count the nodes; raises Missing or Failed."""
    return len(_items("nodes"))


def _items(what: str, *arguments: str) -> list[dict[str, Any]]:
    answer = run_json("kubectl", "get", what, *arguments, "-o", "json", kind=dict, timeout=30)
    items = answer.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) and _name(item) for item in items):
        raise Failed(f"kubectl get {what} answered something unexpected")
    return items


def _name(item: dict[str, Any]) -> str:
    metadata = item.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""


def _type_of(pod: dict[str, Any]) -> str:
    labels = pod["metadata"].get("labels")
    if isinstance(labels, dict):
        for label in _TYPE_LABELS:
            if labels.get(label):
                return str(labels[label])
    named = re.match(r"lobster-(image-gen|[a-z]+)-", _name(pod))
    return named[1] if named else "unknown"
