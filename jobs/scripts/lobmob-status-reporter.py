#!/usr/bin/env python3
"""Report how the fleet is; the work is in lobmob_lib/status.py."""

import sys

from lobmob_lib.status import main

if __name__ == "__main__":
    sys.exit(main())
