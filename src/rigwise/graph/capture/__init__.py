"""Front ends: from a model to a graph."""
