"""A database backend: Django's SQLite with a fair write gate, and table rebuilds that never reuse an id."""
