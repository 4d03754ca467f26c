"""Measurements beside predictions: scoring what is predicted, and learning from what was measured."""
