from core.database.server import is_postgres

# It imports models of procrastinate, whose app is installed on PostgreSQL alone.
collect_ignore = [] if is_postgres() else ["test_runners.py"]
