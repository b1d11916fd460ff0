"""What came of a task: its links and its result."""
