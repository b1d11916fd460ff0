"""`manage.py doctor`: everything that an installation needs, looked at for real, each in a line."""
