"""Graph in, graph out: optimizer, precision, fusion, recompute, adapters."""
