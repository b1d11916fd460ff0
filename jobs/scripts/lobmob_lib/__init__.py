"""What the fleet's scheduled scripts share. They talk to lobwife over REST, and use its git wrapper and its locks."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3]))  # of core and vaultsync: neither needs Django here
