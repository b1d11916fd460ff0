"""Restoring a copy of the database, and what a restore carries over from the state that it replaces."""
