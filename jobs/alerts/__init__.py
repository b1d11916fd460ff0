"""Alerts and pings: the rules and their delivery."""
