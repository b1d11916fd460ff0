#!/usr/bin/env python3
"""Say where this runs: a job to try things with."""

import os
import platform
import sys
import time

print(f"Hello from {platform.node()}, process {os.getpid()}, Python {platform.python_version()}")
print(f"job {os.environ.get('LOBWIFE_JOB', 'none')}, run {os.environ.get('LOBWIFE_RUN_ID', 'none')}")
print(f"folder {os.getcwd()}, arguments {sys.argv[1:]}")
for name in ("LOBWIFE_URL", "VAULT_PATH", "LOG_DIR", "TASK_STATE_DIR", "LOBMOB_RUNTIME"):
    print(f"{name}={os.environ.get(name, '')}")
print(f"done at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}")
