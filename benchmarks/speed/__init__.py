"""Speed and memory of noref beside its peers, on the same data, sizes and, where possible, weights."""
