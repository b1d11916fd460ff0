"""The daemon's process and its loops."""
