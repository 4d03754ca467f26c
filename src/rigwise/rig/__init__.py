"""PC parts: what is wrong with a parts list, and the best parts for a budget."""
