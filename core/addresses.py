"""Where web is reached."""

from __future__ import annotations

from django.conf import settings

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - addresses to ask, none to listen on


def local_url(port: int) -> str:
    """The URL, without a path, by which a program or browser on this machine reaches a port of web's."""
    host = _ANY_ADDRESS.get(settings.BIND, settings.BIND)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
