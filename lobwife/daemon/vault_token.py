"""The vault's credentials come from the broker: neither app knows the other."""

from __future__ import annotations

from django.conf import settings

from broker.audit import SYSTEM
from broker.tokens.issue import issue_service_token

SERVICE = "lobwife-sync"


def vault_token() -> str | None:
    """A token for the vault's remote; None without a GitHub App, when git uses what credentials it has."""
    if not settings.GH_APP_ID:
        return None
    return issue_service_token(service=SERVICE, caller=SYSTEM).token
