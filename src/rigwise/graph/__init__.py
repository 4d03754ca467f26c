"""The model as operators: capture, files, counting, passes."""
