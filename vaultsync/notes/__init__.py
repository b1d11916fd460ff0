"""Notes: what a task's Markdown file holds."""
