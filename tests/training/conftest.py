"""What all tests of training share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    """Nothing here is large enough for two; and other processes, which are compared bit for bit, have one."""
    torch.set_num_threads(1)
