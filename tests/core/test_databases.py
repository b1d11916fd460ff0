"""Which database settings choose, and what of it is imported."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from tests.support.installation import ROOT

_IMPORTS = "import django; django.setup(); import lobwife.urls, sys; print('psycopg' in sys.modules)"
_WITHOUT_PSYCOPG = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "psycopg" else find(name, *rest)
import lobwife.settings
"""


def _python(code: str, state: pathlib.Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "lobwife.settings",
        "LOBWIFE_STATE_DIR": str(state),
        "LOBWIFE_DATABASE_URL": "",
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_psycopg_is_imported_where_a_url_asks_for_it_and_only_there(tmp_path: pathlib.Path) -> None:
    assert _python(_IMPORTS, tmp_path).stdout.strip() == "False"
    assert _python(_IMPORTS, tmp_path, LOBWIFE_DATABASE_URL="postgresql://h/fleet").stdout.strip() == "True"


def test_where_it_is_not_installed_a_sentence_says_how_to(tmp_path: pathlib.Path) -> None:
    refused = _python(_WITHOUT_PSYCOPG, tmp_path, LOBWIFE_DATABASE_URL="postgresql://ann:hunter2@h/fleet")
    assert "needs psycopg and procrastinate: pip install -r requirements-postgres.txt" in refused.stderr
    assert "hunter2" not in refused.stderr
