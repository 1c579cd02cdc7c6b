"""Threads of the tests in this folder."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    """Nothing here is large enough for two."""
    torch.set_num_threads(1)
