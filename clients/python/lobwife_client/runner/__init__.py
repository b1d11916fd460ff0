"""`lobwife-agent run` and `lobwife-agent status`: commands that work on tasks, kept safe by leases."""

from .commands import arguments

__all__ = ["arguments"]
