"""A whole installation on one PostgreSQL that is killed at random under load, and the account of it afterwards."""
