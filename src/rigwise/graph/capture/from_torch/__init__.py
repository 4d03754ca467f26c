"""A PyTorch module as a model: what runs in the child process."""
