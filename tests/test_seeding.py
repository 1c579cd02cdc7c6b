from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noref.seeding import Key

KEYS = [
    Key(0, "s", "mask"),
    Key(1, "s", "mask"),
    Key(0, "t", "mask"),
    Key(0, "s", "noise"),
    Key(0, "s", "mask", 0),
    Key(0, "s", "mask", 1),
    Key(0, "s", "mask").fold(0),
    Key(0, "s", "mask").fold("0"),
    Key(0, "s", "mask").fold(0).fold(1),
    Key(0, "s", "mask").fold(1).fold(0),
    Key(0, "s', 'mask", ""),
    Key(10, "", "mask"),
    Key(1, "0", "mask"),
]


def test_every_field_gives_another_stream() -> None:
    assert len({key.entropy() for key in KEYS}) == len(KEYS)
    assert len({key.numpy().random() for key in KEYS}) == len(KEYS)
    assert len({float(torch.rand((), generator=key.torch())) for key in KEYS}) == len(KEYS)


def test_the_same_key_gives_the_same_numbers_whatever_was_drawn_before() -> None:
    first = KEYS[4].numpy().random(5), torch.rand(5, generator=KEYS[4].torch())
    KEYS[5].numpy().random(3)
    torch.rand(3)
    again = Key(0, "s", "mask", 0)
    assert np.array_equal(first[0], again.numpy().random(5))
    assert torch.equal(first[1], torch.rand(5, generator=again.torch()))


def test_drawing_leaves_the_global_generators_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    KEYS[0].torch().initial_seed()
    torch.rand(2, generator=KEYS[0].torch())
    KEYS[0].numpy().random()
    assert torch.equal(before, torch.random.get_rng_state())


def test_streams_are_the_same_on_every_machine_and_release() -> None:
    # A change of these numbers changes every mask and Γ of every data set: it must be deliberate.
    key = Key(7, "subject/scan/3", "holdout", None, ("bank", 2))
    assert key.entropy() == 201920986028391929685906529305904945273
    assert key.numpy().integers(2**31, size=2).tolist() == [16171425, 949195973]


def test_folding_makes_a_new_key() -> None:
    key = Key(0, "s", "mask")
    assert key.fold(1).fold("a").index == (1, "a")
    assert key.index == ()


@settings(deadline=None)
@given(seed=st.integers(-(2**63), 2**63), epoch=st.none() | st.integers(0, 10**6), scan=st.text(max_size=20))
def test_any_key_has_generators(seed: int, epoch: int | None, scan: str) -> None:
    key = Key(seed, scan, "view", epoch)
    assert 0 <= key.entropy() < 2**128
    assert 0 <= key.torch().initial_seed() < 2**63
    assert 0 <= key.numpy().random() < 1


def test_streams_are_uncorrelated() -> None:
    draws = np.stack([Key(0, "s", "view", epoch).numpy().random(2000) for epoch in range(20)])
    correlation = np.corrcoef(draws) - np.eye(20)
    assert abs(correlation).max() < 0.12  # five standard errors
