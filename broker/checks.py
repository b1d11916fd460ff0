"""System checks of the broker's settings: a sentence at start instead of a refusal by GitHub later."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from broker.github.app import is_safe_url, trouble
from broker.tokens.scope import well_formed


def check_settings(**_: Any) -> list[CheckMessage]:
    """Permissions are well-formed, credentials go nowhere in the clear, and half an App is not taken for none."""
    found: list[CheckMessage] = []
    for kind, permissions in settings.BROKER_PERMISSIONS.items():
        if not permissions or not well_formed(permissions):
            found.append(
                Error(
                    f"LOBWIFE_BROKER_PERMISSIONS: what {kind!r} may do can't be read.",
                    hint='Each value is an object such as {"contents": "read", "metadata": "read"}.',
                    id="broker.E001",
                )
            )
    if not is_safe_url(settings.GITHUB_API_URL):
        found.append(
            Warning("GITHUB_API_URL must begin with https://, unless it is on this machine.", id="broker.W002")
        )
    if (settings.GH_APP_ID or settings.GH_APP_INSTALL_ID) and trouble():
        found.append(Warning(trouble(), hint="Agents get no tokens until this is mended.", id="broker.W001"))
    return found
