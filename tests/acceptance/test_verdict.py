"""From reconstructions of known quality to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from judging import adjoint, inventing, smoothing, target, wavelets

from noref.acceptance.candidates import Applied, by_classical
from noref.acceptance.floor import Floor
from noref.acceptance.lesion import Recovery
from noref.acceptance.measure import Plan, measure
from noref.acceptance.repeat import Repeat
from noref.acceptance.results import LesionResult, SliceResult, geometric_mean, mean_recovery, numbers
from noref.acceptance.verdict import Criterion, Thresholds, Verdict, criteria, overall
from noref.scan import Scan


def slice_(
    gamma: float = 0.1,
    contrast: float = 0.95,
    *,
    dark: float | None = None,
    width: float | None = 1.0,
    floor: float | None = 0.05,
    visibility: float | None = 50.0,
    repeat: Repeat | None = None,
) -> SliceResult:
    """A slice that passes, unless told otherwise."""
    lesions = [
        LesionResult((3, 3), inserted, visibility, {"model": Recovery(given, width, 0.1)})
        for inserted, given in ((0.5, contrast), (-0.5, contrast if dark is None else dark))
    ]
    return SliceResult(
        "subject/scan/000",
        4.0,
        True,
        {"wavelet": 0.12, "model": gamma},
        Floor(floor, "corners"),
        {},
        lesions,
        {} if repeat is None else {"model": repeat},
    )


def judged(slices: Sequence[SliceResult], limits: Thresholds | None = None) -> dict[str, Criterion]:
    return {line.name: line for line in criteria(slices, "model", limits or Thresholds())}


def test_all_that_is_asked_is_accepted_and_what_was_not_tested_is_said() -> None:
    lines = judged([slice_()])
    assert {line.verdict for line in lines.values()} == {Verdict.ACCEPTED, Verdict.UNTESTED}
    total = overall(list(lines.values()))
    assert total.verdict is Verdict.ACCEPTED
    assert total.measured == "not tested: Repeatability"


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("Γ against wavelets", slice_(gamma=0.13)),
        ("Γ against its noise floor", slice_(floor=0.004)),
        ("Bright lesions: contrast", slice_(contrast=0.7, dark=0.9)),
        ("Bright lesions: contrast", slice_(contrast=1.3, dark=0.9)),
        ("Dark lesions: contrast", slice_(dark=0.79)),
        ("Lesions: width", slice_(width=1.4)),
        ("Lesions: width", slice_(width=None)),
        ("Repeatability", slice_(repeat=Repeat(0.5, 0.2, 0.1))),
    ],
)
def test_each_criterion_refuses_alone(name: str, one: SliceResult) -> None:
    lines = judged([one])
    refused = [line.name for line in lines.values() if line.verdict is Verdict.REFUSED]
    assert refused == [name]
    total = overall(list(lines.values()))
    assert (total.verdict, total.measured) == (Verdict.REFUSED, name)


def test_thresholds_are_the_users() -> None:
    lines = judged([slice_(gamma=0.13, contrast=0.6)], Thresholds(gamma=1.2, contrast=0.5))
    assert lines["Γ against wavelets"].verdict is Verdict.ACCEPTED
    assert lines["Γ against wavelets"].threshold == "at most 1.2 times theirs"
    assert lines["Bright lesions: contrast"].threshold == "0.50 to 2.00"
    assert lines["Bright lesions: contrast"].verdict is Verdict.ACCEPTED


def test_what_cannot_be_known_is_open_and_says_why() -> None:
    for one, name, reason in (
        (slice_(floor=None), "Γ against its noise floor", "Nothing tells the noise"),
        (slice_(gamma=0.02), "Γ against its noise floor", "noise was overestimated"),
        (slice_(visibility=3.0), "Dark lesions: contrast", "noise hides them all"),
        (slice_(repeat=Repeat(0.5, None, None)), "Repeatability", "Nothing tells the noise"),
    ):
        lines = judged([one])
        assert lines[name].verdict is Verdict.OPEN
        assert reason in lines[name].reason
        assert overall(list(lines.values())).verdict is Verdict.OPEN


def test_lesions_that_noise_hides_are_not_counted() -> None:
    slices = [slice_(contrast=0.9), slice_(contrast=0.1, visibility=2.0)]
    found = mean_recovery(slices, "model", bright=True)
    assert found is not None
    assert found.contrast == pytest.approx(0.9)
    assert mean_recovery(slices[1:], "model", bright=True) is None


def test_ratios_are_averaged_as_ratios() -> None:
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1)
    assert geometric_mean([0.0, 2.0]) == 0
    lines = judged([slice_(gamma=0.06), slice_(gamma=0.24)])
    assert lines["Γ against wavelets"].measured.startswith("1.000 times theirs; not above in 1 of 2")


def test_numbers_are_json() -> None:
    assert numbers({1.0: (float("nan"), Repeat(1.0, None, 2.0)), "b": [float("inf"), "x"]}) == {
        "1.0": [None, {"difference": 1.0, "noise": None, "predicted": 2.0}],
        "b": [None, "x"],
    }


def verdicts(make: Applied | None, one: Scan) -> dict[str, Verdict]:
    """Of a reconstruction, measured as any other, at an acceleration that wavelets can do with."""
    judged_by = wavelets(one) if make is None else make
    candidates = {
        "zero-filled": by_classical("zero-filled"),
        "cg-sense": by_classical("cg-sense"),
        "wavelet": by_classical("wavelet"),
        "model": lambda _: judged_by,
    }
    result, pictures = measure(Plan("model", candidates, "cg-sense"), one)
    assert pictures.images["model"].shape == one.shape
    assert set(pictures.patches[0.5]) == {"inserted", *candidates}
    return {line.name: line.verdict for line in criteria([result], "model", Thresholds())}


def test_reconstructions_are_found_out_by_what_is_wrong_with_them() -> None:
    one = target(noise=0.02, acceleration=2.0)
    good = verdicts(None, one)
    assert set(good.values()) == {Verdict.ACCEPTED, Verdict.UNTESTED}

    blurred = verdicts(smoothing(wavelets(one), 2.0), one)
    assert blurred["Bright lesions: contrast"] is Verdict.REFUSED
    assert blurred["Γ against wavelets"] is Verdict.REFUSED

    # A texture that is always there adds nothing to differences, and Γ alone sees it.
    invented = verdicts(inventing(wavelets(one), 0.3), one)
    assert invented["Γ against wavelets"] is Verdict.REFUSED
    assert invented["Bright lesions: contrast"] is Verdict.ACCEPTED

    aliased = verdicts(adjoint, one)
    assert aliased["Γ against wavelets"] is Verdict.REFUSED


def test_a_second_measurement_is_judged_along() -> None:
    one = target(noise=0.1, acceleration=2.0)
    other = target(noise=0.0, acceleration=2.0)
    noise = 0.1 * (one.kspace.roll(7, -1) - other.kspace.roll(7, -1)) / 0.1
    again = replace(other, id="again/scan/0", kspace=other.kspace + (noise * one.mask))
    plan = Plan(
        "cg-sense", {name: by_classical(name) for name in ("wavelet", "cg-sense")}, "cg-sense", lesions=0
    )
    result, _ = measure(plan, one, again)
    lines = {line.name: line for line in criteria([result], "cg-sense", Thresholds())}
    assert lines["Repeatability"].verdict is Verdict.ACCEPTED
    assert lines["Lesions: width"].verdict is Verdict.OPEN
