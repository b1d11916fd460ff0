"""What `manage.py serve` does before the supervisor takes over."""
