"""Read-only probes of a computer; nothing is changed and no rights are needed."""
