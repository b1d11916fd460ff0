"""What the apps use of the database, whichever it is: settings choose its backend, and that answers here.

`core.sqlite` and `core.postgres` are the two backends. Nothing but they has SQL of one kind.
"""
