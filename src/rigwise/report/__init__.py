"""Answers for people: terminal, plots, self-contained HTML."""
