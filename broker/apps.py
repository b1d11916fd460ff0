"""The app and its system check of settings: a sentence at start instead of a refusal by GitHub later."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from broker.github.app import is_safe_url, open_key_files, problem
from broker.tokens.scope import SERVICE_PREFIX, well_formed


class BrokerConfig(AppConfig):
    name = "broker"
    verbose_name = "Token broker"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(check_settings)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Check that permissions are well-formed, the address is safe for credentials, and no part of an App is missing."""
    messages: list[CheckMessage] = []
    for kind, permissions in settings.BROKER_PERMISSIONS.items():
        if not permissions or not well_formed(permissions):
            messages.append(
                Error(
                    f"LOBWIFE_BROKER_PERMISSIONS: what {kind!r} may do can't be read.",
                    hint='Each value is an object such as {"contents": "read", "metadata": "read"}.',
                    id="broker.E001",
                )
            )
        if kind in settings.BROKER_SERVICES:
            messages.append(
                Error(
                    f"LOBWIFE_BROKER_PERMISSIONS: {kind!r} is the type of an agent there, and the name of a service.",
                    hint=f"What the service may do stands under {SERVICE_PREFIX + kind!r}.",
                    id="broker.E002",
                )
            )
    if not is_safe_url(settings.GITHUB_API_URL):
        messages.append(
            Warning("GITHUB_API_URL must begin with https://, unless it is on this machine.", id="broker.W002")
        )
    for name in open_key_files():
        messages.append(
            Warning(
                f"The file of {name} is open to every user of this machine.",
                hint="chmod 600 it, or mount the Secret with defaultMode: 0440 and an fsGroup.",
                id="broker.W003",
            )
        )
    missing = problem()
    if (settings.GH_APP_ID or settings.GH_APP_INSTALL_ID) and missing is not None:
        messages.append(Warning(missing, hint="Agents get no tokens until this is mended.", id="broker.W001"))
    return messages
