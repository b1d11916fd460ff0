"""A claim reads the first rows of an index, however long the queue is."""

from __future__ import annotations

import re

import pytest
from django.db import connection

from core.timestamps import utc_now
from tasks.leases.queries import Lanes, Wanted, lanes_of

pytestmark = pytest.mark.django_db
QUEUE = """
INSERT INTO tasks (name, type, repos, queued_at)
SELECT 'Task ' || n, (ARRAY['swe', 'qa', 'research'])[1 + n % 3], '["org/repo-' || n % 50 || '"]', '2026-02-01 12:00:00'
FROM generate_series(1, 20000) n
"""
MOST_PAGES = 100  # of some hundred that the indexes have


def pages_read(lanes: Lanes) -> int:
    moment = connection.ops.adapt_datetimefield_value(utc_now())
    values = {**lanes.parameters, "now": moment, "today": utc_now().date().isoformat(), "most": 1}
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {lanes.queue} LIMIT 1", values)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    buffers = re.search(r"Buffers: shared (.*)", plan)
    assert buffers, plan
    return sum(map(int, re.findall(r"(?:hit|read)=(\d+)", buffers[1])))


def test_a_claim_reads_a_few_pages() -> None:
    with connection.cursor() as cursor:
        cursor.execute(QUEUE)
        cursor.execute("ANALYZE tasks")
    claims = [{}, {"types": ("swe",)}, {"types": ("swe", "qa")}, {"types": ("swe",), "repos": ("org/repo-9",)}]
    for wanted in claims:
        lanes = lanes_of(Wanted(**wanted))
        assert lanes is not None
        pages_read(lanes)  # the first look tidies up after what other tests have undone
        assert pages_read(lanes) < MOST_PAGES, wanted
