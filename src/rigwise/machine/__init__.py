"""A concrete computer or cluster."""
