"""Shared code of the fleet's scheduled scripts. They call lobwife by its client, and use its git wrapper and lock."""

import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.append(str(_ROOT))  # of core: none of what is used of it needs Django
sys.path.append(str(_ROOT / "clients" / "python"))
