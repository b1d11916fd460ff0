"""Start a script in a session of its own, its output and errors in one pipe."""

from __future__ import annotations

import ctypes
import errno
import os
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def spawn(command: list[str], environment: dict[str, str], directory: str) -> tuple[int, int]:
    """The script's pid and the reading end of its output; raises OSError when it can't be started."""
    pipe, output = os.pipe()
    failed, failure = os.pipe()
    parent = os.getpid()
    script = os.fork()
    if script == 0:
        try:
            os.setsid()
            _die_with(parent)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (output, 1), (output, 2)):
                os.dup2(source, target)
            os.chdir(directory)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvpe(command[0], command, environment)  # noqa: S606 no shell is wanted
        except OSError as error:
            os.write(failure, str(error.errno or errno.EIO).encode())
        finally:
            os._exit(127)
    os.close(output)
    os.close(failure)
    reason = os.read(failed, 16)
    os.close(failed)
    if reason:
        os.waitpid(script, 0)
        os.close(pipe)
        raise OSError(int(reason), os.strerror(int(reason)))
    return script, pipe


def _die_with(parent: int) -> None:
    """The script dies with its parent, even when that is killed; what it started is found by its environment."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)
