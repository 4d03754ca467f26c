"""Measured times: what a row says, and the tables it is read from."""
