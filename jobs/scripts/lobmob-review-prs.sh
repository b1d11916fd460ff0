#!/bin/bash
# Review the vault's open pull requests. The work is in lobmob_lib/review.py.
folder=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
PYTHONPATH=$folder${PYTHONPATH:+:$PYTHONPATH} exec "${LOBWIFE_PYTHON:-python3}" -m lobmob_lib.review "$@"
