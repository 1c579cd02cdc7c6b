"""A stream gives the slices that a file of the same read-outs gives, each as soon as it is complete."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from epi_scans import Shot, train
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mrd_files import (
    CALIBRATION,
    CALIBRATION_AND_IMAGING,
    NOISE,
    REVERSE,
    ismrmrd,
    kspace,
    lines,
    readout,
    space,
    write,
    xml,
)
from torch import Tensor

from noref import formats
from noref.errors import NorefError
from noref.formats.mrd_header import MrdHeader, parse
from noref.formats.mrd_records import readout_head_type
from noref.scan import Scan
from noref.serve.assembly import Assembly, Complete
from noref.serve.wire import MIB, Readout

PLAIN = xml(space((12, 8, 1), limits=(0, 7, 4)))
LAST_IN_SLICE, LAST_IN_REPETITION = ismrmrd.ACQ_LAST_IN_SLICE, ismrmrd.ACQ_LAST_IN_REPETITION
LAST = ismrmrd.ACQ_LAST_IN_MEASUREMENT

Acquisitions = list[ismrmrd.Acquisition]


def streamed(one: ismrmrd.Acquisition) -> Readout:
    head = np.frombuffer(bytes(one.getHead()), readout_head_type()).reshape(())
    return Readout(head, one.traj.ravel(), np.ascontiguousarray(one.data).view(np.float32).ravel())


def assembly(header: str, averages: formats.Averages = "mean") -> Assembly:
    return Assembly("a", parse(header.encode()) or MrdHeader(), averages)


def scans(complete: list[Complete]) -> list[Scan]:
    return [one.scan(64 * MIB)[0] for one in complete]


def arriving(
    header: str, made: Acquisitions, averages: formats.Averages = "mean"
) -> tuple[list[int], list[Scan], Assembly]:
    """After which read-outs slices are complete, and the slices."""
    one = assembly(header, averages)
    found, when = [], []
    for number, readout_ in enumerate(made):
        complete = one.add(streamed(readout_))
        found += complete
        when += [number] * len(complete)
    rest = one.finish()
    return when + [len(made)] * len(rest), scans([*found, *rest]), one


def marked(made: Acquisitions, *flags: int) -> Acquisitions:
    for flag in flags:
        made[-1].setFlag(flag)
    return made


def same(mine: Scan, theirs: Scan) -> None:
    """But for how many frames there are, which nobody knows before the last one."""
    theirs = replace(theirs, header=replace(theirs.header, frame=None, frame_part=""))
    for field in fields(Scan):
        one, other = getattr(mine, field.name), getattr(theirs, field.name)
        if isinstance(one, Tensor):
            torch.testing.assert_close(one, other, rtol=0, atol=0, msg=field.name)
        else:
            assert one == other, field.name


def repetitions(count: int = 2, slices: int = 2) -> Acquisitions:
    return [
        one
        for r in range(count)
        for s in range(slices)
        for one in marked(
            lines(kspace(2, 8, 12, seed=10 * r + s), repetition=r, slice=s, position=(r, s, 5)), LAST_IN_SLICE
        )
    ]


def separate() -> Acquisitions:
    other = kspace(2, 8, 12, seed=5)
    calibration = [
        one
        for s in range(2)
        for one in marked(lines((s + 1) * other, CALIBRATION, rows=[2, 3, 4, 5], slice=s), LAST_IN_SLICE)
    ]
    return calibration + [
        one
        for r in range(2)
        for s in range(2)
        for one in marked(
            lines(kspace(2, 8, 12, seed=r + s), rows=[0, 2, 4, 6], repetition=r, slice=s), LAST_IN_SLICE
        )
    ]


def interleaved() -> Acquisitions:
    return [
        one
        for r in range(4)
        for one in marked(
            lines((r + 1) * kspace(2, 8, 12), rows=list(range(r % 2, 8, 2)), repetition=r), LAST_IN_SLICE
        )
    ]


def embedded() -> Acquisitions:
    values = kspace(2, 8, 12)
    return [
        one
        for r in range(2)
        for one in marked(
            [
                *lines(values, rows=[0, 2], repetition=r),
                *lines(values, CALIBRATION, rows=[3, 5], repetition=r),
                *lines(values, CALIBRATION_AND_IMAGING, rows=[4], repetition=r),
                *lines(values, rows=[6], repetition=r),
            ],
            LAST_IN_SLICE,
        )
    ]


def first_calibrates() -> Acquisitions:
    values = kspace(2, 8, 12)
    return [
        *lines(values, rows=[0, 2]),
        *lines(values, CALIBRATION_AND_IMAGING, rows=[3, 4, 5]),
        *marked(lines(values, rows=[6]), LAST_IN_SLICE),
        *marked(lines(3 * values, rows=[1, 3, 5], repetition=1), LAST_IN_SLICE),
    ]


def averaged() -> Acquisitions:
    return [
        one
        for a in range(2)
        for one in marked(lines((a + 1) * kspace(2, 8, 12), average=a, segment=a), LAST_IN_SLICE)
    ]


def odds() -> Acquisitions:
    """Noise, navigators, a partial echo, reversed lines, discarded samples, contrasts in turns."""
    values, noise = kspace(2, 8, 12), kspace(2, 300, seed=3)
    navigator = readout(kspace(3, 7), ismrmrd.ACQ_IS_NAVIGATION_DATA)
    made = [readout(noise, NOISE, sample_time_us=2.0), navigator]
    for row, contrast in itertools.product(range(8), range(2)):
        flags = [REVERSE] * (row % 2)
        line = values[:, row, 3:] * (contrast + 1)
        head = {"center_sample": 5 if row % 2 else 3, "discard_pre": 1, "sample_time_us": 4.0}
        line = line[:, ::-1] if row % 2 else line
        made.append(readout(line, *flags, kspace_encode_step_1=row, contrast=contrast, **head))
    return made


def epi() -> Acquisitions:
    """Of two slices, whose shots come in turns, in two repetitions."""
    numbers = [(r, i, s) for r in range(2) for i in range(2) for s in range(2)]
    made = []
    for repetition, segment, slice_ in numbers:
        fault = Shot(0.5 * segment - 0.4 * slice_, 1.0 - repetition)
        head = {"repetition": repetition, "slice": slice_, "segment": segment}
        shot = train(2, 8, 12, fault, range(segment, 8, 2), seed=slice_, **head)
        made += marked(shot, *[LAST_IN_SLICE] * segment)
    return made


def epi_navigated_once() -> Acquisitions:
    return [
        one
        for r in range(3)
        for one in marked(
            train(2, 8, 12, Shot(), navigators=0 if r else 3, repetition=r, seed=r), LAST_IN_SLICE
        )
    ]


def calibrated_epi() -> Acquisitions:
    made = []
    for slice_ in range(2):
        calibrating = train(2, 8, 12, Shot(-0.5, 2.0 - slice_), range(2, 6), seed=slice_, slice=slice_)
        for one in calibrating:
            one.setFlag(CALIBRATION)
        made += marked(calibrating, LAST_IN_SLICE)
    for repetition, slice_ in itertools.product(range(2), range(2)):
        head = {"repetition": repetition, "slice": slice_}
        made += marked(train(2, 8, 12, Shot(0.4, repetition), range(0, 8, 2), **head), LAST_IN_SLICE)
    return made


def counted(header: str, **last: int) -> str:
    """With the limits of other counters than the lines'."""
    limits = "".join(
        f"<{n}><minimum>0</minimum><maximum>{v}</maximum><center>0</center></{n}>" for n, v in last.items()
    )
    return header.replace("</encodingLimits>", f"{limits}</encodingLimits>")


def mode(name: str) -> str:
    return xml(space((12, 8, 1), limits=(0, 7, 4), calibration=name))


CASES: dict[str, tuple[str, Callable[[], Acquisitions]]] = {
    "repetitions": (counted(PLAIN, repetition=1, slice=1), repetitions),
    "separate": (counted(mode("separate"), repetition=1, slice=1), separate),
    "interleaved": (counted(mode("interleaved"), repetition=3), interleaved),
    "embedded": (counted(mode("embedded"), repetition=1), embedded),
    "first calibrates": (counted(mode("other"), repetition=1), first_calibrates),
    "averages": (counted(PLAIN, average=1, segment=1), averaged),
    "odds": (counted(PLAIN, contrast=1), odds),
    "EPI": (counted(PLAIN, repetition=1, slice=1), epi),
    "EPI navigated once": (counted(PLAIN, repetition=2), epi_navigated_once),
    "calibrated EPI": (counted(mode("separate"), repetition=1, slice=1), calibrated_epi),
    "partial Fourier": (xml(space((12, 8, 1), limits=(0, 4, 1))), lambda: lines(kspace(2, 5, 12))),
    "padding": (xml(space((12, 10, 1), limits=(0, 5, 3))), lambda: lines(kspace(1, 6, 12), rows=[0, 2, 3])),
    "no header": ("nonsense", lambda: lines(kspace(2, 8, 12))),
    "one coil, odd": (xml(space((13, 9, 1), limits=(0, 8, 4))), lambda: lines(kspace(1, 9, 13))),
}


@pytest.mark.filterwarnings("ignore:.*without navigators")
@pytest.mark.parametrize("averages", ["mean", "apart"])
@pytest.mark.parametrize("case", CASES)
def test_a_stream_gives_what_a_file_gives(tmp_path: Path, case: str, averages: formats.Averages) -> None:
    header, make = CASES[case]
    made = make()
    path = write(tmp_path / "a.h5", made, header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {scan.id: scan for scan in formats.read(path, averages=averages)}
    _, mine, one = arriving(header, made, averages)
    assert sorted(scan.id for scan in mine) == sorted(theirs)
    for scan in mine:
        same(scan, theirs[scan.id])
    # What is left are the calibration lines, the noise, and the names of what is done.
    assert one.held <= len(mine) * 1024 + sum(2048 + line.data.nbytes for line in made) * 2


@pytest.mark.filterwarnings("ignore:.*without navigators")
@pytest.mark.parametrize("order", ["shuffled", "backwards"])
@pytest.mark.parametrize("case", ["repetitions", "averages", "embedded", "odds"])
def test_whatever_the_order_of_the_lines(tmp_path: Path, case: str, order: str) -> None:
    header, make = CASES[case]
    made = make()
    for one in made:
        one.clearFlag(LAST_IN_SLICE)
    repetition = [one.idx.repetition for one in made]
    numbers = (
        np.random.default_rng(2).permutation(len(made)) if order == "shuffled" else range(len(made))[::-1]
    )
    # Repetitions come one after the other.
    mixed = [made[n] for n in sorted(numbers, key=lambda n: repetition[n])]
    path = write(tmp_path / "a.h5", mixed, header)
    theirs = {scan.id: scan for scan in formats.read(path)}
    for scan in arriving(header, mixed)[1]:
        same(scan, theirs.pop(scan.id))
    assert not theirs


def test_slices_come_when_their_last_line_does() -> None:
    when, mine, _ = arriving(CASES["repetitions"][0], repetitions())
    assert when == [7, 15, 23, 31]
    assert [scan.id for scan in mine] == [f"a/a.repetition{r}/00{s}" for r in (0, 1) for s in (0, 1)]


def test_unmarked_slices_come_with_the_next_repetition_and_the_end() -> None:
    made = [one for r in range(2) for s in range(2) for one in lines(kspace(1, 8, 12), repetition=r, slice=s)]
    assert arriving(PLAIN, made)[0] == [16, 16, 32, 32]
    made[15].setFlag(LAST_IN_REPETITION)
    assert arriving(PLAIN, made)[0] == [15, 15, 32, 32]
    made[31].setFlag(LAST)
    assert arriving(PLAIN, made)[0] == [15, 15, 31, 31]


def test_interleaved_slices_wait_for_their_own_mark_alone() -> None:
    values = kspace(1, 8, 12)
    made = [
        readout(
            values[:, row],
            *[LAST_IN_SLICE] * (row == 7),
            kspace_encode_step_1=row,
            slice=s,
            contrast=contrast,
        )
        for row in range(8)
        for s in (0, 2, 1)
        for contrast in (0, 1)
    ]
    assert arriving(PLAIN, made)[0] == list(range(42, 48))


def test_averages_wait_for_the_last_one_but_apart() -> None:
    header, make = CASES["averages"]
    assert arriving(header, make())[0] == [15]
    assert arriving(header, make(), "apart")[0] == [7, 15]


def test_what_calibrates_is_waited_for() -> None:
    assert arriving(CASES["separate"][0], separate())[0] == [11, 15, 19, 23]
    late = [*separate()[8:], *separate()[:8]]
    assert arriving(CASES["separate"][0], late)[0] == [24] * 4
    assert arriving(CASES["interleaved"][0], interleaved())[0] == [16] * 4
    assert arriving(CASES["embedded"][0], embedded())[0] == [5, 11]


def test_held_memory_is_that_of_what_is_not_complete() -> None:
    header, _ = CASES["first calibrates"]
    one = assembly(header)
    for readout_ in first_calibrates():
        one.add(streamed(readout_))
    before = one.held
    for r in range(2, 200):
        for readout_ in marked(lines(kspace(2, 8, 12), rows=[1, 3, 5], repetition=r), LAST_IN_SLICE):
            one.add(streamed(readout_))
    # A name for each of what is done.
    assert one.held - before == 198 * 1024


def test_lines_that_come_too_late_are_refused() -> None:
    one = assembly(PLAIN)
    for readout_ in marked(lines(kspace(1, 8, 12)), LAST_IN_SLICE):
        one.add(streamed(readout_))
    with pytest.raises(NorefError, match="line 3 of slice 0, repetition 0 came after the image"):
        one.add(streamed(lines(kspace(1, 8, 12), rows=[3])[0]))


@pytest.mark.parametrize(
    ("header", "made", "message"),
    [
        (xml(space((16000, 16000, 1))), lines(kspace(8, 8, 12)), "takes 15625 MiB, and at most 64"),
        (
            xml(space((12, 8, 1), limits=(0, 69, 4))),
            lines(kspace(1, 70, 12)),
            "lies outside the encoded matrix",
        ),
        (PLAIN, [*lines(kspace(1, 8, 12)), *lines(kspace(2, 8, 12))], "1 and 2 channels in one scan"),
        (PLAIN, [readout(kspace(3, 40), NOISE), *lines(kspace(2, 8, 12))], "noise scans of 3 channels"),
        (xml(space((12, 8, 1), trajectory="radial")), lines(kspace(1, 8, 0)), "read-outs without samples"),
        (PLAIN, lines(kspace(1, 8, 12) * np.nan), "NaN"),
        (PLAIN, lines(np.zeros((1, 8, 12), np.complex64)), "all zeros"),
        (
            xml(
                space((12, 8, 1), view=(1e6, 1e6, 1), limits=(0, 7, 4), calibration="separate"),
                space((12, 8, 1), view=(1e-3, 1e-3, 1), limits=(0, 7, 4)),
            ),
            [*lines(kspace(1, 8, 12), CALIBRATION, encoding_space_ref=1), *lines(kspace(1, 8, 12))],
            "times that of its calibration scan",
        ),
    ],
)
def test_what_cannot_be_is_one_line(header: str, made: Acquisitions, message: str) -> None:
    with pytest.raises(NorefError, match=message) as caught:
        arriving(header, made)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("told", [True, False])
def test_3d_scans_are_refused_in_one_line(told: bool) -> None:
    """By the header, even if only a partition has come; else by the lines."""
    header = xml(space((12, 8, 4), limits=(0, 7, 4), partitions=(0, 3, 2) if told else None))
    made = [
        one
        for z in range(4)
        for one in marked(
            lines(kspace(2, 8, 12), kspace_encode_step_2=z), *[LAST_IN_SLICE] * (told or z == 3)
        )
    ]
    with pytest.raises(NorefError, match="a 3-D scan, and the server makes images of 2-D slices") as caught:
        arriving(header, made[:8] if told else made)
    assert "\n" not in str(caught.value)


def test_navigators_of_slices_that_are_done_are_given_back() -> None:
    one = assembly(PLAIN)
    held = []
    for repetition in range(5):
        made = train(2, 8, 12, Shot(), repetition=repetition)
        for readout_ in marked(made, LAST_IN_SLICE):
            one.add(streamed(readout_))
        held.append(one.held)
    # The last navigators stay, in case that the next repetition has none.
    size = 3 * (made[0].data.nbytes + 1024)
    assert held == [size + 1024 * (repetition + 1) for repetition in range(5)]


NUMBERS = ("number_of_samples", "active_channels", "discard_pre", "discard_post", "center_sample")
COUNTED = ("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast", "repetition")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_headers_say_it_is_a_slice_or_one_line(data: st.DataObject) -> None:
    small, any_ = st.integers(0, 12), st.sampled_from([0, 1, 7, 300, 65535])
    sizes = st.tuples(*[st.sampled_from([0, 1, 8, 12, 300])] * 3)
    view = st.tuples(*[st.sampled_from([0.0, 1e-9, 100.0, 1e12])] * 3)
    kinds = {
        "trajectory": st.sampled_from(["cartesian", "radial", "epi", ""]),
        "calibration": st.sampled_from(["", "separate", "interleaved", "embedded"]),
    }
    header = xml(
        *(
            space(
                data.draw(sizes),
                data.draw(sizes),
                view=data.draw(view),
                recon_view=data.draw(view),
                limits=data.draw(sizes),
                **{name: data.draw(kind) for name, kind in kinds.items()},
            )
            for _ in range(2)
        )
    )
    one = assembly(header)
    complete = []
    with suppress(NorefError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(data.draw(st.integers(1, 12))):
            head = np.zeros((), readout_head_type())
            head["number_of_samples"], head["active_channels"] = data.draw(st.sampled_from([(12, 2), (7, 1)]))
            head["trajectory_dimensions"] = data.draw(st.sampled_from([0, 0, 2, 3]))
            for name in data.draw(st.lists(st.sampled_from(NUMBERS), max_size=2)):
                head[name] = data.draw(small)
            for name in COUNTED:
                head["idx"][name] = data.draw(st.sampled_from([0, 0, 0, 1, 5, 65535]))
            head["encoding_space_ref"] = data.draw(st.sampled_from([0, 0, 1, 65535]))
            for flag in data.draw(st.lists(st.integers(0, 31), max_size=2)):
                head["flags"] |= np.uint64(1 << flag)
            head["center_sample"] = data.draw(any_)
            coils, samples = int(head["active_channels"]), int(head["number_of_samples"])
            values = kspace(coils, samples).view(np.float32).ravel()
            positions = np.full(samples * int(head["trajectory_dimensions"]), 0.3, np.float32)
            complete += one.add(Readout(head, positions, values))
        complete += one.finish()
    for slice_ in complete:
        with suppress(NorefError):
            slice_.scan(8 * MIB)


@pytest.mark.skipif(
    shutil.which("ismrmrd_generate_cartesian_shepp_logan") is None, reason="ismrmrd-tools are not installed"
)
@pytest.mark.parametrize(
    "options", [["-r", 3], ["-a", 2, "-r", 2, "-w", 16], ["-a", 2, "-r", 2], ["-a", 3, "-C"]]
)
def test_files_of_the_generator(tmp_path: Path, options: list[object]) -> None:
    command = [
        "ismrmrd_generate_cartesian_shepp_logan",
        "-o",
        "a.h5",
        "-m",
        "32",
        "-c",
        "3",
        *map(str, options),
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with ismrmrd.Dataset(str(tmp_path / "a.h5"), mode="r") as file:
        made = [file.read_acquisition(number) for number in range(file.number_of_acquisitions())]
        header = file.read_xml_header().decode()
    theirs = {scan.id: scan for scan in formats.read(tmp_path / "a.h5")}
    for scan in arriving(header, made)[1]:
        same(scan, theirs.pop(scan.id))
    assert not theirs
