"""The scripts that are shells by name: `python -m lobmob_lib flush …`."""

import importlib
import sys

_SCRIPTS = ("flush", "review")

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in _SCRIPTS:
        sys.exit(importlib.import_module(f"lobmob_lib.{sys.argv[1]}").main(sys.argv[2:]))
    sys.exit("usage: python -m lobmob_lib " + "|".join(_SCRIPTS))
