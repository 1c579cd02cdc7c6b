import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    """The images are small: a second thread waits more than it works."""
    torch.set_num_threads(1)
