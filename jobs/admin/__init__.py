"""The pages of jobs and runs in the admin."""

from jobs.admin import pages as pages
