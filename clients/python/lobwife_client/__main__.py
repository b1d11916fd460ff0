"""`python -m lobwife_client` is lobwife-agent."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
