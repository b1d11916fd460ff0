"""gunicorn's own words among all others: same stream, same format."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger

from core import logs


class SharedLogger(Logger):  # type: ignore[misc]  # the package has no types
    """Hands on what gunicorn says. Its `logconfig_dict` would too, and prepare an access line for each request."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        logs.configure()
        self.error_log.handlers.clear()
        self.error_log.propagate = True
