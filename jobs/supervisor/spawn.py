"""Start a script in a session of its own, its output and errors in one pipe."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_REASON = 1000
_libc = ctypes.CDLL(None, use_errno=True)


def spawn(command: list[str], environment: dict[str, str], directory: str) -> tuple[int, int]:
    """The script's pid and the reading end of its output; raises OSError when it can't be started."""
    pipe, output = os.pipe()
    failed, failure = os.pipe()
    parent = os.getpid()
    script = os.fork()
    if script == 0:
        try:
            what = "its process"
            os.setsid()
            _die_with(parent)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            what = f"its working directory {directory}"
            os.chdir(directory)
            what = command[0]
            for number in (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):  # Python's and ours are not the script's
                signal.signal(number, signal.SIG_DFL)
            os.execvpe(command[0], command, environment)  # noqa: S606 no shell is wanted
        except (OSError, ValueError) as error:
            os.write(failure, f"{what}: {getattr(error, 'strerror', None) or error}".encode(errors="replace")[:_REASON])
        finally:
            os._exit(127)
    os.close(output)
    os.close(failure)
    reason = os.read(failed, _REASON)
    os.close(failed)
    if reason:
        os.waitpid(script, 0)
        os.close(pipe)
        raise OSError(reason.decode(errors="replace"))
    return script, pipe


def _die_with(parent: int) -> None:
    """The script dies with its parent, even when that is killed; what it started is found by its environment."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)
