"""noref: train MRI reconstruction networks when no fully sampled scan exists."""

__version__ = "0.1.0"
