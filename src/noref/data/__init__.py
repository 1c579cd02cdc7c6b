"""Where scans come from, how they are kept and how they reach the training."""
