"""Shared code of the fleet's scheduled scripts. They talk to lobwife over REST, and use its git wrapper and lock."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3]))  # of core: none of what is used of it needs Django
