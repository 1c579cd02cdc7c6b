"""DICOM images in: MR series, one file a slice or all in one, sorted by where they lie; k-space is made.

Read are MR Image Storage and Enhanced MR Image Storage (PS3.3 A.4, A.36), whose frames say where they lie in
functional groups. Values are those of the rescale slope and intercept.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, EnhancedMRImageStorage, MRImageStorage

from noref.errors import NorefError
from noref.formats.base import Slices, damaged, name_of, pseudonym, scan_id, to_kspace
from noref.formats.geometry import centre_of, vector
from noref.physics import fft2c
from noref.scan import Header, Role, Scan

CLASSES = (MRImageStorage, EnhancedMRImageStorage)
"""What is read."""

PARALLEL = 1e-3
"""Largest difference in a component of the directions of one series."""

APART = 1e-3
"""Millimetres between slices that do not lie at one place."""

UNPLACED = "Position and orientation in the patient are not known; those given are made up."
"""The comment in files of `noref.formats.dicom` whose images nobody has placed: DICOM has to give a place."""

PREAMBLE = 128
"""Bytes before the letters DICM."""


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        path: of its file.
        number: of the frame in a file of several, else None.
        shape: `(y, x)`.
        slope: what stored values are multiplied by.
        intercept: what is added then.
        header: where it lies, and its timing; the distance to the next slice as its file has it.
        order: what sorts images at one place: times, and the number in the series.
    """

    path: Path
    number: int | None
    shape: tuple[int, int]
    slope: float
    intercept: float
    header: Header
    order: tuple[float, ...]


class DicomSlices(Slices):
    """The images of a series, sorted along its normal, those at one place by time."""

    format = "DICOM"

    def __init__(self, path: Path, frames: Sequence[Frame], subject: str, role: Role) -> None:
        self.frames = frames
        super().__init__(path, [scan_id(subject, name_of(path), i) for i in range(len(frames))], role)

    def _read(self, index: int) -> Scan:
        frame = self.frames[index]
        try:
            with lenient():
                stored = pixel_array(frame.path, index=frame.number)
        except Exception as error:  # decoders raise all sorts of things on damaged pixels
            raise damaged(frame.path, error) from error
        image = to_kspace((stored * frame.slope + frame.intercept)[None], str(frame.path), "the image")
        everywhere = torch.ones(frame.shape, dtype=torch.bool)
        return Scan(
            id=self.ids[index],
            kspace=fft2c(image),
            measured=everywhere,
            mask=everywhere,
            role=self.role,
            raw=False,
            header=frame.header,
        )


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    with path.open("rb") as file:
        return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"


def files_in(folder: Path) -> Iterator[Path]:
    """The DICOM files of a folder, but for hidden ones and the index of a medium."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name != "DICOMDIR" and is_dicom(path):
            yield path


def is_series(path: Path) -> bool:
    """Whether a path is a folder with DICOM files in it."""
    return path.is_dir() and next(files_in(path), None) is not None


def read(path: Path, *, role: Role = Role.TARGET) -> DicomSlices:
    """The images of a file, or of a folder that holds one series.

    The subject is a number made of the patient's ID, so that all scans of a patient stay together and no name
    is carried along; the folder's or file's name where there is no ID.

    Args:
        path: of the file or folder.
        role: what the scans are to the training.

    Raises:
        NorefError: if something there is no MR image, its compression cannot be undone, it is damaged, or the
            images differ in series, matrix or orientation.
    """
    files = list(files_in(path)) if path.is_dir() else [path]
    frames, series, patient, placed = list[Frame](), set[str](), "", True
    for file in files:
        try:
            with lenient():
                content = pydicom.dcmread(file, stop_before_pixels=True)
                _check_kind(file, content)
                frames += _frames(file, content)
                series.add(str(content.get("SeriesInstanceUID", "")))
                placed &= content.get("ImageComments") != UNPLACED
                patient = str(content.get("PatientID") or "") or patient
        except NorefError:
            raise
        except Exception as error:  # pydicom raises all sorts of things on damaged files
            raise damaged(file, error) from error
    if len(series) > 1:
        raise NorefError(f"{path}: holds {len(series)} series; put each into a folder of its own")
    ordered = _sorted(frames)
    if not placed:
        nowhere = (replace(frame.header, position=None, directions=None) for frame in ordered)
        ordered = [replace(frame, header=own) for frame, own in zip(ordered, nowhere, strict=True)]
    return DicomSlices(path, ordered, pseudonym(patient) if patient else name_of(path), role)


def _check_kind(path: Path, content: Dataset) -> None:
    kind = UID(str(content.get("SOPClassUID", "")))
    if kind not in CLASSES:
        named = kind.name if kind.is_valid else "of no known kind"
        raise NorefError(f"{path}: is {named}, not an MR image; leave it out")
    colours = content.get("PhotometricInterpretation")
    if content.get("SamplesPerPixel", 1) != 1 or colours != "MONOCHROME2":
        raise NorefError(f"{path}: is no grey image ({colours!r}); leave it out")
    if int(content.get("NumberOfFrames") or 1) > 1 and "PerFrameFunctionalGroupsSequence" not in content:
        raise NorefError(f"{path}: does not say where its frames lie; export it as one file a slice")
    syntax = content.file_meta.TransferSyntaxUID
    # Without compression there is nothing to decode, and no decoder for some syntaxes.
    if syntax.is_compressed and not syntax.is_deflated and not _decodable(syntax):
        raise NorefError(
            f"{path}: compressed as {syntax.name}, which cannot be undone here; decompress it, as with "
            "gdcmconv --raw, or pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        )


def _decodable(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _frames(path: Path, content: Dataset) -> Iterator[Frame]:
    """The images of a file; a plain file has one, which says of itself what it is."""
    shape = (int(content.Rows), int(content.Columns))
    groups = content.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        yield _frame(path, None, shape, [content])
        return
    shared = content.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for number, group in enumerate(groups):
        # What a frame says of itself goes before what all share.
        macros = [
            item
            for one in (group, shared[0])
            for sequence in one
            if sequence.VR == "SQ"
            for item in sequence.value[:1]
        ]
        yield _frame(path, number, shape, [*macros, content])


def _frame(path: Path, number: int | None, shape: tuple[int, int], said: Sequence[Dataset]) -> Frame:
    """An image of which several data sets tell, the first that does of each attribute."""

    def value(name: str) -> Any:
        return next((one[name].value for one in said if name in one and one[name].value is not None), None)

    def number_of(*names: str) -> float | None:
        return next((float(found) for found in map(value, names) if found is not None), None)

    spacing, position, directions = None, None, None
    between, thickness = number_of("SpacingBetweenSlices"), number_of("SliceThickness")
    if (pixels := value("PixelSpacing")) is not None:
        spacing = (float(pixels[0]), float(pixels[1]), abs(between or thickness or 1.0))
    corner, along = value("ImagePositionPatient"), value("ImageOrientationPatient")
    if spacing is not None and corner is not None and along is not None:
        axes = np.array(along, float).reshape(2, 3)
        directions = (*map(vector, axes), vector(np.cross(*axes)))
        steps = axes * np.array([[spacing[1]], [spacing[0]]])
        position = centre_of(np.array(corner, float), steps, shape)
    header = Header(
        spacing=spacing,
        thickness=thickness,
        position=position,
        directions=directions,
        protocol=str(value("ProtocolName") or value("SeriesDescription") or ""),
        repetition_time=number_of("RepetitionTime"),
        echo_time=number_of("EchoTime", "EffectiveEchoTime"),
        # Some scanners write 0 where nothing is inverted.
        inversion_time=number_of("InversionTime") or None,
        flip_angle=number_of("FlipAngle"),
        contrast=_from_zero(value("EchoNumbers")),
        repetition=_from_zero(value("TemporalPositionIdentifier") or value("TemporalPositionIndex")),
    )
    times = ("EchoTime", "EffectiveEchoTime", "TemporalPositionIdentifier", "TemporalPositionIndex")
    cardiac = ("TriggerTime", "NominalCardiacTriggerDelayTime", "InstanceNumber")
    order = tuple(number_of(name) or 0.0 for name in (*times, *cardiac))
    slope = number_of("RescaleSlope")
    slope, intercept = 1.0 if slope is None else slope, number_of("RescaleIntercept") or 0.0
    return Frame(path, number, shape, slope, intercept, header, (*order, number or 0))


def _from_zero(number: Any) -> int:
    """A number as it counts from 0, where DICOM counts from 1; 0 where there is none, or several."""
    try:
        return max(int(number) - 1, 0)
    except (TypeError, ValueError):
        return 0


def _sorted(frames: Sequence[Frame]) -> list[Frame]:
    """The images of one series in order, with the measured distance between slices if there are several."""
    first = frames[0]
    for frame in frames:
        if frame.shape != first.shape:
            one, other = ("×".join(map(str, shape)) for shape in (first.shape, frame.shape))
            raise NorefError(
                f"{frame.path}: is {other}, and {first.path.name} {one}; put them into folders of their own"
            )
        placed = first.header.directions is not None
        if (frame.header.directions is not None) != placed or not np.allclose(
            frame.header.directions or 0, first.header.directions or 0, atol=PARALLEL
        ):
            raise NorefError(
                f"{frame.path}: oriented otherwise than {first.path.name}; put them into folders of their own"
            )
    normal = (first.header.directions or ((0.0, 0.0, 0.0),))[-1]
    heights = [float(np.dot(frame.header.position or normal, normal)) for frame in frames]
    places = sorted(range(len(frames)), key=lambda i: heights[i])
    # Numbered, as heights that differ in their last digits are one place.
    steps = np.diff([heights[i] for i in places])
    ranks = dict(zip(places, np.concatenate([[0], np.cumsum(steps > APART)]), strict=True))
    ordered = [frames[i] for i in sorted(range(len(frames)), key=lambda i: (ranks[i], frames[i].order))]
    apart = steps[steps > APART]
    if len(apart) == 0:
        return ordered
    between = float(np.median(apart))
    return [
        replace(frame, header=replace(frame.header, spacing=(*frame.header.spacing[:2], between)))
        if frame.header.spacing is not None
        else frame
        for frame in ordered
    ]


@contextmanager
def lenient() -> Iterator[None]:
    """Reads what real files hold without a word about what the standard has against it."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
