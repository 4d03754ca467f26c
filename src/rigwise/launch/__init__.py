"""A command run where a plan says, watched, measured and compared with the prediction."""
