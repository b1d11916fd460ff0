"""The scripts that are shells by name: `python -m lobmob_lib flush …`."""

import sys

from . import flush

_SCRIPTS = {"flush": flush.main}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in _SCRIPTS:
        sys.exit(_SCRIPTS[sys.argv[1]](sys.argv[2:]))
    sys.exit("usage: python -m lobmob_lib " + "|".join(_SCRIPTS))
