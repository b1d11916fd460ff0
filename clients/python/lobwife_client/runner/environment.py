"""The environment of a task's command: of the machine's variables those that hold no secret, and what is asked for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

_PASSED = frozenset(
    {
        *("PATH", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "USER", "LOGNAME", "SHELL", "LD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "LOBWIFE_GIT_HOST"),
    }
)
# The runner's own credential, which claims any task.
NEVER_PASSED = frozenset({"LOBWIFE_API_KEY", "LOBWIFE_TOKEN_PATH"})
GITHUB = "https://github.com"
_SECRET = re.compile(r"(?i)key|token|secret|passw|credential|auth")
_COMMAND = "lobwife-agent"
_HELPER = "git-credential-lobwife"


def passed_on(names: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the machine's variables for a command: those without secrets, and those that are named."""
    allowed = (_PASSED | set(names)) - NEVER_PASSED
    passed = {name: value for name, value in environment.items() if name in allowed or name.startswith("LC_")}
    folder = _own_folder()
    if folder and shutil.which(_COMMAND, path=passed.get("PATH", os.defpath)) is None:
        passed["PATH"] = f"{passed.get('PATH', os.defpath)}{os.pathsep}{folder}"
    return passed


def secrets_among(names: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Return the values of named variables that are to be masked in output."""
    return [environment[name] for name in names if name in environment and _SECRET.search(name)]


def git_variables(base: str, path: str) -> dict[str, str]:
    """Return what makes git get tokens for the base's host from lobwife, and from nowhere else. It holds no secret."""
    parts = urlsplit(base)
    variables = {"GIT_TERMINAL_PROMPT": "0"}
    if parts.scheme != "https":
        return variables
    scope = f"credential.https://{parts.netloc}.helper"
    program = shutil.which(_HELPER, path=path)
    helper = [program] if program else [sys.executable, "-m", "lobwife_client.credential"]
    # The empty one makes git forget the helpers of the machine.
    for place, value in enumerate(("", f"!{shlex.join(helper)}")):
        variables |= {f"GIT_CONFIG_KEY_{place}": scope, f"GIT_CONFIG_VALUE_{place}": value}
    variables["GIT_CONFIG_COUNT"] = "2"
    if base != GITHUB:
        variables["LOBWIFE_GIT_HOST"] = parts.netloc
    return variables


def _own_folder() -> str:
    """Return the folder of `lobwife-agent` where this program is it; empty otherwise."""
    folder, name = os.path.split(os.path.abspath(sys.argv[0]))
    return folder if name == _COMMAND else ""
