"""Which part of k-space anyone gets to see."""
