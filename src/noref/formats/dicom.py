"""DICOM series out: magnitudes as MR Image Storage, one file a slice, in a folder of their own.

PS3.3 A.4 (MR Image IOD) with the modules Patient, General Study and Series, Frame of Reference, General
Equipment, General Image, Image Plane, Image Pixel, MR Image, VOI LUT and SOP Common; the rescale slope makes
it a Standard Extended SOP class. Echoes and repetitions are files of one series, told apart by EchoNumbers,
TemporalPositionIdentifier, and for what else differs AcquisitionNumber. All UIDs are new, and nothing says
who the patient is, unless a file of the patient's study is given.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.config import RAISE
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat, validate_value

from noref.errors import NorefError
from noref.files import whole_folder
from noref.formats.base import damaged
from noref.formats.dicom_images import UNPLACED, lenient
from noref.formats.geometry import Images, alike, corner_of, headers_of, places_of, step_of, volumes_of
from noref.formats.png import WINDOW
from noref.scan import Header
from noref.version import __version__

Patient = Dataset
"""Of whom `patient_of` tells."""

SUFFIX = ".dcm"
"""Of a series' folder, and of the files in it."""

DEEPEST = 65535
"""The largest value of 16 bits."""

BRIGHT = 100
"""What bright tissue is at least: windows narrower than 1 are not allowed, and some viewers want integers."""

SKEW = 1e-3
"""Largest cosine between rows and columns that are perpendicular."""

PATIENT = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition"),
)
"""What is copied from a file of the patient's study, by its keywords."""

EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("SeriesNumber", "Laterality", "PositionReferenceIndicator", "PatientPosition"),
    *("ScanOptions", "RepetitionTime", "EchoTime", "EchoTrainLength"),
)
"""What has to be there and may be empty (type 2)."""


def patient_of(path: Path) -> Patient:
    """What `write` is to copy: the patient, study and frame of reference of a DICOM file.

    Raises:
        NorefError: if it cannot be read, or is of no study.
    """
    try:
        patient = Dataset()
        with lenient():
            read = pydicom.dcmread(path, stop_before_pixels=True)
            for name in PATIENT:
                if name in read:
                    # Text: names remember the bytes of the character set that they were written in.
                    setattr(patient, name, _valid(read[name].VR, str(read[name].value or "")))
    except FileNotFoundError:
        raise NorefError(f"{path}: not found; name a DICOM file of the patient's study") from None
    except (InvalidDicomError, OSError) as error:
        raise NorefError(f"{path}: no DICOM file; name one of the patient's study") from error
    except Exception as error:  # pydicom raises all sorts of things on damaged files
        raise damaged(path, error) from error
    if not patient.get("StudyInstanceUID"):
        raise NorefError(f"{path}: belongs to no study; name a DICOM file of the patient's study")
    return patient


def write(
    path: Path,
    images: Images,
    header: Header | Sequence[Header],
    *,
    made: str = "",
    patient: Patient | None = None,
) -> None:
    """Writes magnitudes as a series: a new folder of `0001.dcm`, `0002.dcm`, … in the order of the slices.

    Images of several sizes are as many series in that folder, as viewers want those of one to be alike.

    `stored = round(10ⁿ·|image| / slope)`, `slope = 10ⁿ·max|image| / 65535` over all slices, with the smallest
    n ≥ 0 that makes the 99.5th percentile, to which the window reaches, 100 or more; the description says n.

    Args:
        path: of the folder.
        images: all slices.
        header: of the first slice, or of every slice, its timing and counters among it. Without spacing,
            position and directions the slices are stacked along z around the origin, a millimetre apart, and
            a comment says so.
        made: what reconstructed the images, for the descriptions.
        patient: from `patient_of`; its frame of reference is kept if the header has a position.

    Raises:
        NorefError: if the folder holds files, the file system refuses, rows and columns are not
            perpendicular, or an image holds NaN or infinity.
    """
    headers = headers_of(header, len(images))
    magnitudes = [np.abs(values).astype(np.float64) for values in images]
    every = np.concatenate([values.ravel() for values in magnitudes])
    if not np.isfinite(every).all():
        raise NorefError(f"{path}: the images hold NaN or infinity; DICOM cannot hold them, write .npy")
    white = float(np.percentile(every, WINDOW) or every.max() or BRIGHT)
    power = max(0, math.ceil(math.log10(BRIGHT / white)))
    slope = _decimal(float(every.max() * 10.0**power) / DEEPEST or 1.0)

    shared = _shared(headers[0], made, power, patient)
    shared.WindowCenter = _decimal(white * 10**power / 2)
    shared.WindowWidth = _decimal(white * 10**power)
    shared.RescaleSlope, shared.RescaleIntercept, shared.RescaleType = slope, 0, "US"
    files: list[tuple[tuple[Dataset, ...], int]] = [((), 0)] * len(magnitudes)
    for indices in alike(magnitudes):
        series = _series(path, [headers[index] for index in indices], magnitudes[indices[0]].shape)
        for number, (index, modules) in enumerate(zip(indices, series, strict=True)):
            files[index] = (shared, *modules), number + 1
    if any(UNPLACED in file.get("ImageComments", "") for modules, _ in files for file in modules):
        warnings.warn(f"{path}: {UNPLACED[0].lower()}{UNPLACED[1:-1]}", stacklevel=2)
    with whole_folder(path) as folder:
        for index, (modules, number) in enumerate(files):
            scaled = magnitudes[index] * 10.0**power / float(slope)
            pixels = np.clip(scaled.round(), 0, DEEPEST).astype("<u2")
            _save(folder / f"{index + 1:04d}{SUFFIX}", modules, pixels, number)


def _series(path: Path, headers: Sequence[Header], shape: tuple[int, ...]) -> Iterator[tuple[Dataset, ...]]:
    """The modules of every image of a series that differ from those of other series, or other images."""
    series = Dataset()
    series.SeriesInstanceUID = generate_uid(None)
    planes = _planes(path, headers, (shape[0], shape[1]))
    if planes is None:
        series.FrameOfReferenceUID, series.ImageComments = generate_uid(None), UNPLACED
        planes = _made_up(places_of(headers), headers[0].spacing)
    for modules in zip(map(_timing, headers), _numbers(headers), planes, strict=True):
        yield (series, *modules)


def _valid(representation: str, value: str) -> str:
    """A value, or nothing in the place of one that the standard does not allow, such as the date 00000000."""
    try:
        validate_value(representation, value, RAISE)
    except ValueError:
        return ""
    return value


def _shared(header: Header, made: str, power: int, patient: Patient | None) -> Dataset:
    """What all files of a series share, but for geometry, timing and grey values."""
    series = Dataset()
    series.SpecificCharacterSet = "ISO_IR 192"
    for name in EMPTY:
        setattr(series, name, None)
    series.StudyInstanceUID, series.FrameOfReferenceUID = generate_uid(None), generate_uid(None)
    if patient is not None:
        series.update(patient)
    series.SOPClassUID, series.Modality = MRImageStorage, "MR"
    series.Manufacturer, series.SoftwareVersions = "noref", __version__
    by = f", {made}" if made else ""
    times = f"; magnitudes times 1e{power}" if power else ""
    series.SeriesDescription = _text(f"noref{by}", 64)
    series.DerivationDescription = _text(f"Reconstructed by noref {__version__}{by}{times}", 1024)
    series.ProtocolName = _text(header.protocol, 64)
    series.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    if header.field_strength is not None:
        series.MagneticFieldStrength = _decimal(header.field_strength)
    series.SequenceVariant, series.MRAcquisitionType = "NONE", "2D"
    series.BurnedInAnnotation, series.LossyImageCompression = "NO", "00"
    series.SamplesPerPixel, series.PhotometricInterpretation = 1, "MONOCHROME2"
    series.BitsAllocated, series.BitsStored, series.HighBit, series.PixelRepresentation = 16, 16, 15, 0
    return series


def _timing(header: Header) -> Dataset:
    """Times and flip angle of an image."""
    own = Dataset()
    # Research mode: what the sequence was is not known, but for the inversion.
    own.ScanningSequence = "RM" if header.inversion_time is None else ["RM", "IR"]
    for name, value in (
        ("RepetitionTime", header.repetition_time),
        ("EchoTime", header.echo_time),
        ("InversionTime", header.inversion_time),
        ("FlipAngle", header.flip_angle),
    ):
        if value is not None:
            setattr(own, name, _decimal(value))
    return own


def _numbers(headers: Sequence[Header]) -> list[Dataset]:
    """What tells the images of one slice apart, where there are several."""
    echoes = _ranks([(header.contrast, header.echo_time or 0.0) for header in headers])
    others = _ranks([(header.set, header.average) for header in headers])
    times = _ranks([(header.repetition, header.phase) for header in headers])
    places = places_of(headers)
    if len(set(zip(places, echoes, others, times, strict=True))) < len(headers):
        # Nothing but their order tells them apart.
        before = Counter[tuple[int, ...]]()
        for index, key in enumerate(zip(places, echoes, others, strict=True)):
            times[index] = before[key]
            before[key] += 1
    found = []
    for echo, other, time in zip(echoes, others, times, strict=True):
        own = Dataset()
        if max(echoes):
            own.EchoNumbers = echo + 1
        if max(others):
            own.AcquisitionNumber = other + 1
        if max(times):
            own.TemporalPositionIdentifier, own.NumberOfTemporalPositions = time + 1, max(times) + 1
        found.append(own)
    return found


def _ranks(values: Sequence[tuple[float, ...]]) -> list[int]:
    """The place of every value among the different ones, in ascending order."""
    ranks = {value: rank for rank, value in enumerate(sorted(set(values)))}
    return [ranks[value] for value in values]


def _planes(path: Path, headers: Sequence[Header], shape: tuple[int, int]) -> list[Dataset] | None:
    """The Image Plane module of every slice; None if one has no place."""
    volumes = volumes_of(headers)
    step = None if volumes is None else step_of([headers[index] for index in volumes[0]])
    between = None if step is None else float(np.linalg.norm(step))
    planes = []
    for header in headers:
        corner = corner_of(header, shape)
        if corner is None or header.spacing is None or header.directions is None:
            return None
        along_x, along_y, normal = (np.array(direction) for direction in header.directions)
        if abs(along_x @ along_y) > SKEW:
            raise NorefError(f"{path}: rows and columns are not perpendicular, as DICOM wants; write .nii.gz")
        plane = _plane(header.spacing, between, header.thickness)
        plane.ImageOrientationPatient = list(map(_decimal, (*along_x, *along_y)))
        plane.ImagePositionPatient = list(map(_decimal, corner))
        plane.SliceLocation = _decimal(float(np.array(header.position) @ normal))
        planes.append(plane)
    return planes


def _made_up(places: Sequence[int], spacing: tuple[float, float, float] | None) -> list[Dataset]:
    """Axial planes above each other.

    Args:
        places: number of each image's.
        spacing: millimetres along y, x and z.
    """
    planes = []
    spacing = spacing or (1.0, 1.0, 1.0)
    for index in places:
        plane = _plane(spacing, spacing[2], None)
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        plane.ImagePositionPatient = [0, 0, _decimal(index * spacing[2])]
        plane.SliceLocation = _decimal(index * spacing[2])
        planes.append(plane)
    return planes


def _plane(spacing: tuple[float, float, float], between: float | None, thickness: float | None) -> Dataset:
    """How far pixels and slices are apart; nothing of slices that are not evenly spaced."""
    plane = Dataset()
    plane.PixelSpacing = [_decimal(spacing[0]), _decimal(spacing[1])]
    apart = spacing[2] if between is None else between
    plane.SliceThickness = _decimal(apart if thickness is None else thickness)
    if between is not None:
        plane.SpacingBetweenSlices = _decimal(between)
    return plane


def _save(path: Path, modules: Sequence[Dataset], pixels: NDArray[np.uint16], number: int) -> None:
    file = Dataset()
    for module in modules:
        file.update(module)
    file.SOPInstanceUID, file.InstanceNumber = generate_uid(None), number
    file.Rows, file.Columns = pixels.shape
    file.PixelData = pixels.tobytes()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, file, enforce_file_format=True)


def _decimal(value: float) -> DSfloat:
    """A number in the 16 characters that DICOM gives it."""
    return DSfloat(float(value), auto_format=True)


def _text(value: str, length: int) -> str:
    """A text without what DICOM does not allow: backslashes, control characters, or more than so many."""
    return "".join(c if c.isprintable() and c != "\\" else "/" for c in value)[:length].strip()
