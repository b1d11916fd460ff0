"""Web: gunicorn's settings and worker, what a start prepares, and the supervisor of web and daemon."""
