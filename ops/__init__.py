"""Views for operators: dashboard, search, activity, health, checks and metrics."""
