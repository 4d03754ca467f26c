"""What a machine really does: one file for each benchmark, all measured in one way."""
