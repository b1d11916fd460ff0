"""A database backend: Django's PostgreSQL with one writer at a time by default, and commits that are listened for.

Its modules but `dump` are imported when `LOBWIFE_DATABASE_URL` is set, and only then: they need psycopg.
"""
