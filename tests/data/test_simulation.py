import itertools
import math

import pytest
import torch

from noref.data.phantoms import phantom
from noref.data.simulate import prospective, simulate_data, simulate_scan
from noref.errors import NorefError
from noref.physics import ifft2c
from noref.scan import Scan
from noref.seeding import Key


def scan(id: str = "brain-0001/brain-0001/000", **changes: object) -> Scan:
    options: dict[str, object] = {"matrix": (48, 48), "coils": 3, "noise_db": 30.0, "seed": 0}
    return simulate_scan("brain", id=id, **{**options, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("matrix", [(48, 48), (47, 49), (32, 64)])
@pytest.mark.parametrize("coils", [1, 5])
def test_a_scan_is_complete_and_says_that_it_is_simulated(matrix: tuple[int, int], coils: int) -> None:
    made = scan(matrix=matrix, coils=coils)
    assert made.kspace.shape == (coils, *matrix)
    assert made.kspace.dtype == torch.complex64
    assert made.clean is not None
    assert made.clean.shape == made.kspace.shape
    assert bool(made.mask.all())
    assert made.maps is None
    assert not made.raw
    assert made.header.crop == matrix


@pytest.mark.parametrize("decibel", [10.0, 40.0])
def test_noise_is_white_and_as_loud_as_asked(decibel: float) -> None:
    made = scan(matrix=(96, 96), coils=8, noise_db=decibel)
    assert made.clean is not None
    noise = made.kspace - made.clean
    combined = ifft2c(made.clean).abs().square().sum(0).sqrt()
    inside = phantom("brain", (96, 96), Key(0, "brain-0001", "phantom")).abs() > 0.05
    sigma = float(noise.abs().square().mean().sqrt())
    measured = 20 * math.log10(float(combined[inside].square().mean().sqrt()) / sigma)
    assert measured == pytest.approx(decibel, abs=0.2)
    assert float(noise.real.var() / noise.imag.var()) == pytest.approx(1, abs=0.05)
    covariance = torch.cov(noise.flatten(1)) / sigma**2
    torch.testing.assert_close(covariance, torch.eye(8, dtype=torch.complex64), rtol=0, atol=0.05)


def test_a_scan_of_a_finer_grid_has_the_values_of_the_phantom() -> None:
    # One coil is nearly uniform and normalised, so that the image is the phantom's up to its shading.
    made = scan(matrix=(128, 128), coils=1, noise_db=None)
    assert made.clean is not None
    torch.testing.assert_close(made.kspace, made.clean, rtol=0, atol=0)
    image = ifft2c(made.kspace)[0].abs()
    truth = phantom("brain", (128, 128), Key(0, "brain-0001", "phantom")).abs()
    middle = (slice(32, 96), slice(32, 96))
    assert float(image[middle].mean() / truth[middle].mean()) == pytest.approx(1, abs=0.1)
    correlation = torch.corrcoef(torch.stack((image[middle].flatten(), truth[middle].flatten())))[0, 1]
    assert float(correlation) > 0.93


def test_the_scan_holds_what_lies_between_its_pixels() -> None:
    # k-space made on the scan's own grid would be another: the data crime of METHODS 9.3.
    key = Key(0, "brain-0001", "phantom")
    fine = ifft2c(scan(coils=1, noise_db=None).kspace)[0].abs()
    own = phantom("brain", (48, 48), key).abs()
    assert float((fine - own)[8:40, 8:40].abs().mean()) > 0.01


def test_slices_share_the_subject_and_its_coils_but_not_the_noise() -> None:
    first, again = scan(z=0.1), scan("brain-0001/brain-0001/001", z=0.1)
    assert first.clean is not None
    assert again.clean is not None
    torch.testing.assert_close(first.clean, again.clean, rtol=0, atol=0)
    assert not torch.equal(first.kspace, again.kspace)
    torch.testing.assert_close(first.kspace, scan(z=0.1).kspace, rtol=0, atol=0)
    other = scan("brain-0002/brain-0002/000", z=0.1)
    assert float((other.kspace - first.kspace).abs().max()) > 0.1


def test_data_are_made_lazily_subject_after_subject() -> None:
    endless = simulate_data("knee", scans=10**6, slices=2, coils=1, matrix=(32, 32), noise_db=30, seed=4)
    ids = [made.id for made in itertools.islice(endless, 3)]
    assert ids == ["knee-0001/knee-0001/000", "knee-0001/knee-0001/001", "knee-0002/knee-0002/000"]


def test_an_undersampled_scan_carries_nothing_that_was_not_acquired() -> None:
    full = scan(matrix=(64, 64))
    made = prospective(full, kind="lines", acceleration=4, acs=6, seed=0)
    assert made.acceleration == pytest.approx(4)
    assert made.clean is None
    assert made.reference is None
    assert made.rss is None
    assert torch.equal(made.measured, made.mask)
    assert float(made.kspace[:, ~made.mask].abs().max()) == 0
    torch.testing.assert_close(made.kspace[:, made.mask], full.kspace[:, made.mask], rtol=0, atol=0)
    again = prospective(full, kind="lines", acceleration=4, acs=6, seed=0)
    assert torch.equal(made.mask, again.mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anatomy": "elbow"}, "choose one of brain"),
        ({"scans": 0}, "at least one"),
        ({"matrix": (8, 8)}, "16 pixels"),
    ],
)
def test_impossible_wishes_are_refused(changes: dict[str, object], message: str) -> None:
    small: dict[str, object] = {"scans": 1, "slices": 1, "coils": 1, "matrix": (32, 32), "noise_db": 30.0}
    with pytest.raises(NorefError, match=message):
        next(simulate_data(**{"anatomy": "brain", "seed": 0, **small, **changes}))  # type: ignore[arg-type]
