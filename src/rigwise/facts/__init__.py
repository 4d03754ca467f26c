"""What the world says: devices, CPUs, offers, parts, each figure with its source."""
