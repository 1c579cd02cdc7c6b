"""Full scans are undersampled as others were: by what their masks show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic import scan

from noref.data.alike import sampled_as
from noref.data.dataset import Dataset
from noref.data.prepare import Preparation, undersample
from noref.sampling.masks import acquisition_mask
from noref.seeding import Key


@pytest.mark.parametrize("kind", ["lines", "equispaced", "random2d"])
def test_the_kind_of_mask_its_acceleration_and_calibration_are_seen(kind: str) -> None:
    """Of scans of two matrices, every one with a mask (and an offset) of its own."""
    slices = []
    for index, shape in enumerate([(96, 40), (96, 40), (96, 40), (128, 48), (128, 48)]):
        one = scan(shape, 2, seed=index)
        mask = acquisition_mask(kind, shape, 4, 12, Key(0, str(index), "mask"))
        slices.append(replace(one.undersampled(mask), reference=None))
    found = sampled_as(Dataset(slices, Preparation(holdout=0.1)))
    assert found["mask"] == kind
    assert found["acceleration"] == pytest.approx(4, rel=0.05)
    # Samples that happen to lie beside the block make it larger.
    assert found["acs"] == pytest.approx(12, abs=2)


def test_what_targets_are_asked_to_have_is_taken_as_it_is() -> None:
    how = Preparation(mask="poisson", acceleration=6, acs=0.1)
    found = sampled_as(Dataset([scan((64, 64), 2)], how))
    assert found == {"mask": "poisson", "acceleration": 6, "acs": 0.1}


def test_partial_fourier_is_taken_where_it_is_asked_for() -> None:
    how = Preparation(mask="lines", acceleration=3, acs=8, partial_fourier=0.75)
    found = sampled_as(Dataset([scan((64, 64), 2)], how))
    assert found == {"mask": "lines", "acceleration": 3, "acs": 8, "partial_fourier": 0.75}
    with_it = Preparation.model_validate(found)
    sampled = undersample(scan((64, 64), 2, seed=1), with_it)
    assert not bool(sampled.mask[:16].any())
    assert sampled.acceleration == pytest.approx(64 / 21)
