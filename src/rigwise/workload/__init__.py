"""What must be done: cases, strategies, jobs."""
