"""Helpers for every app; imports none of them."""
