"""What the pages show of each document: pure functions from what ``--json`` prints to words, rows and pictures."""
