"""GitHub's command line with a token of lobwife's broker: for the task of TASK_ID, else the service of SERVICE_NAME.

A refusal is an error. GH_TOKEN of the environment is used when it alone is set, when the broker can't be reached or is
not configured, or when LOBWIFE_URL is unset. The real one is LOBWIFE_GH_REAL, else /usr/bin/gh-real.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence

from .credential import NoBroker, NoToken, ask

_REAL = "/usr/bin/gh-real"
_WITHOUT_TOKEN = ("--version", "version", "--help", "-h", "help", "completion")
_TOKENS = ("GH_TOKEN", "GITHUB_TOKEN", "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN")


def main() -> int:
    """Become the real gh; return the exit code where that can't be."""
    environment = dict(os.environ)
    if _needs_token(sys.argv[1:], environment):
        refusal = _add_token(environment)
        if refusal:
            print(f"gh: no token from lobwife: {refusal}", file=sys.stderr)
            return 1
    real = environment.get("LOBWIFE_GH_REAL") or _REAL
    try:
        os.execve(real, [real, *sys.argv[1:]], environment)  # noqa: S606 this is what a wrapper does
    except OSError as error:
        print(f"gh: {real} can't be run: {error.strerror}", file=sys.stderr)
    return 127


def _needs_token(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Return whether the broker is to be asked: not for help, nor for who brings a token and says not who they are."""
    if not arguments or arguments[0] in _WITHOUT_TOKEN:
        return False
    return bool(environment.get("TASK_ID") or environment.get("SERVICE_NAME") or not environment.get("GH_TOKEN"))


def _add_token(environment: MutableMapping[str, str]) -> str | None:
    """Put the broker's token into the environment; return the sentence of a refusal."""
    try:
        token, _ = ask(environment)
    except NoToken as refusal:
        return str(refusal)
    except NoBroker as absence:
        if not environment.get("GH_TOKEN"):
            print(f"gh: {absence}, and GH_TOKEN is not set: going on without a token", file=sys.stderr)
        return None
    for name in _TOKENS:
        environment.pop(name, None)
    environment["GH_TOKEN"] = token
    if environment.get("GH_HOST", "github.com") != "github.com":
        environment["GH_ENTERPRISE_TOKEN"] = token
    return None
