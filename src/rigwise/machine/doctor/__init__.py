"""What is wrong with a computer for deep learning, from what was read of it; rules are data, tests are functions."""
