"""Which variables hold secrets, told by their names."""

from __future__ import annotations

_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "PEM", "KEY", "CREDENTIAL", "ALERT_URLS")
_NO_SECRET_ENDS = ("_PATH", "_FILE", "_DIR")


def is_secret(variable: str) -> bool:
    """Whether the variable's value is masked in output and on pages."""
    name = variable.upper()
    return any(word in name for word in _SECRET_WORDS) and not name.endswith(_NO_SECRET_ENDS)
