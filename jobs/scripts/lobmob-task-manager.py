#!/usr/bin/env python3
"""Look after tasks; the work is in lobmob_lib/task_manager.py."""

import sys

from lobmob_lib.task_manager import main

if __name__ == "__main__":
    sys.exit(main())
