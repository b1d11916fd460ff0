"""Schedules, and the runs that are due by them."""
