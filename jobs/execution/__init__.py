"""Runs, from the queue to their end."""
