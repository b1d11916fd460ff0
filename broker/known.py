"""What GitHub told before, in the one row that remembers it."""

from __future__ import annotations

from django.conf import settings

from broker.models import GitHubState


def state() -> GitHubState:
    """The one row of what is known about GitHub; made when it is not there."""
    return GitHubState.objects.filter(pk=1).first() or GitHubState.objects.get_or_create(pk=1)[0]


def owner() -> str:
    """The installation's owner; empty while it is unknown."""
    row = GitHubState.objects.filter(pk=1, installation_id=settings.GH_APP_INSTALL_ID).first()
    return row.owner if row else ""
