"""gevent's patches, for a process that imports the project before the web server that it becomes could patch anything.

Those of processes and signals, which the fork server needs as they are, are left to the web server.
"""

from gevent import monkey

monkey.patch_all(os=False, signal=False, subprocess=False)
