#!/bin/bash
# Append the event log to the vault, and empty it. The work is in lobmob_lib/flush.py.
folder=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
PYTHONPATH=$folder${PYTHONPATH:+:$PYTHONPATH} exec "${LOBWIFE_PYTHON:-python3}" -m lobmob_lib.flush "$@"
