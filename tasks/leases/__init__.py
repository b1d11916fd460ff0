"""Leases: agents claim tasks, show that they are alive, and hand tasks back."""
