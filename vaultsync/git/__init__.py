"""git, by its command line."""
