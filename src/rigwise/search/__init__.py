"""A* over everything that can be rented, bought or already stands there."""
