"""Kept copies of the database: made and thinned out, tried once a week, put back."""
