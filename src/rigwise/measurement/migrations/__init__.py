"""How an older store becomes a newer one, one file for each step."""
