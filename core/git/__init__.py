"""git by its command line, and the lock of the vault; the fleet's scripts use both, without Django."""
