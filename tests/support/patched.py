"""gevent's patches, for a process that imports the project before the web worker that it becomes could patch anything.

What concerns processes and signals is left to the worker.
"""

from gevent import monkey

monkey.patch_all(os=False, signal=False, subprocess=False)
