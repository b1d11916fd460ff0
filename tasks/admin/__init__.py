"""The pages of tasks in the admin."""

from tasks.admin import costs as costs
from tasks.admin import pages as pages
from tasks.admin import questions as questions
