"""Alerts about the whole service: what the checks find is raised and resolved, and summed up once a day."""
