"""Shared code of the fleet's scheduled scripts. They talk to lobwife over REST, and use its git wrapper and lock."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3]))  # of core and vaultsync: neither needs Django here
