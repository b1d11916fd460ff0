"""The pages of jobs, runs and alerts in the admin."""

from jobs.admin import alert_pages as alert_pages
from jobs.admin import pages as pages
