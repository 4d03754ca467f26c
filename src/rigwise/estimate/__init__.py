"""From work and machine to time, memory, energy, each with an interval."""
