"""The nodes: processes that share a database of several, and which of the daemons leads. Writes the rows of nodes."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from core.database.backend import is_postgres
from core.database.clock import clock
from core.timestamps import utc_now
from jobs.models import Daemon, Node, NodeKind

BEAT_SECONDS = 5.0
_CLOCKS_APART = timedelta(seconds=5)
_KEPT = timedelta(days=1)


class Heartbeat:
    """The heartbeat of this process. On SQLite nothing: its daemon is the only one, and has the row of `Daemon`."""

    def __init__(self, kind: NodeKind, labels: Sequence[str] = ()) -> None:
        self._row = Node(
            kind=kind,
            name=f"{socket.gethostname()}/{os.getpid()}",
            labels=list(labels),
            version=settings.VERSION,
            started_at=utc_now(),
        )

    @property
    def node(self) -> Node | None:
        """This process as a node, which is stored from the first beat on; None where nodes are not kept."""
        return self._row if is_postgres() else None

    def beat(self, *, leads: bool = False, running: int = 0, trouble: str = "") -> None:
        """Give a sign of life: one write, in no transaction, that nobody is notified of. It compares clocks as well."""
        if not is_postgres():
            return
        clock().compare()
        trouble = "; ".join(filter(None, [trouble, _clock_trouble()]))
        values = {"beat_at": Now(), "leads": leads, "running": running, "trouble": trouble}
        if not Node.objects.filter(pk=self._row.pk).update(**values):
            self._row.pk = None
            for name, value in values.items():
                setattr(self._row, name, value)
            self._row.save(force_insert=True)

    def leave(self) -> None:
        """Take the row away: the process ends in order."""
        if self._row.pk is not None:
            Node.objects.filter(pk=self._row.pk).delete()


def _clock_trouble() -> str:
    """Return a sentence about a clock that is far off; work goes on, and is shown at other times than it happened."""
    ahead = clock().ahead
    if abs(ahead) < _CLOCKS_APART:
        return ""
    seconds, way = abs(ahead.total_seconds()), "behind" if ahead > timedelta(0) else "ahead of"
    return f"its machine's clock is {seconds:.0f} s {way} the database's: keep both by NTP"


def prune() -> int:
    """Remove those that were not seen for a day; return how many."""
    return Node.objects.filter(beat_at__lt=Now() - _KEPT).delete()[0]


def begin_term() -> int:
    """Begin to lead: from now on, no transaction of an earlier leader is committed. Return the term."""
    with transaction.atomic():
        Daemon.objects.get_or_create(pk=Daemon.PK)
        Daemon.objects.filter(pk=Daemon.PK).update(term=F("term") + 1)
        Node.objects.filter(leads=True).update(leads=False)
        return Daemon.objects.values_list("term", flat=True).get(pk=Daemon.PK)


def fence(term: int | None) -> str:
    """Return a query that has a row while nobody else has begun to lead."""
    return f"SELECT 1 FROM {Daemon._meta.db_table} WHERE id = {Daemon.PK} AND term = {int(term or 0)}"  # noqa: S608
