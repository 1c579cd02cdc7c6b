"""DICOM in: sorted by where images lie, rescaled, and refused where they do not belong together."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
)

from noref import formats
from noref.data.dataset import Dataset as Scans
from noref.data.files import files_of, open_scans
from noref.data.prepare import Preparation
from noref.data.store import Store
from noref.data.storing import write_store
from noref.errors import NorefError
from noref.physics import ifft2c
from noref.scan import Role

SHAPE = (6, 9)
STEP = np.array([0.0, -3.0, 4.0])
"""From slice to slice; normal to the images, which are turned about x."""


def image(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(1, 1000, SHAPE).astype(np.uint16)


def plane(index: int, frame: int = 0, **changed: object) -> Dataset:
    """One image of a series, `index` steps along its normal."""
    file = Dataset()
    file.SOPClassUID, file.SOPInstanceUID = MRImageStorage, f"1.2.{index + 1}.{frame + 1}"
    file.SeriesInstanceUID, file.StudyInstanceUID, file.Modality = "1.2.3", "1.2.4", "MR"
    file.PatientName, file.PatientID = "Someone^Known", "4711"
    file.SeriesDescription, file.InstanceNumber = "cine", 100 - index
    file.TriggerTime, file.RepetitionTime, file.EchoTime = 40 * frame, 30, 1.5
    file.InversionTime, file.FlipAngle = 0, 45
    file.ImagePositionPatient = [-10.0, *(20 + index * STEP[1:])]
    file.ImageOrientationPatient = [1, 0, 0, 0, 0.8, 0.6]
    file.PixelSpacing, file.SliceThickness = [2.0, 1.5], 4.0
    file.RescaleSlope, file.RescaleIntercept = 0.5, 3
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.Rows, file.Columns = SHAPE
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.PixelData = image(10 * index + frame).tobytes()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name, value in changed.items():
        setattr(file, name, value)
    return file


def save(path: Path, file: Dataset) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)


def series(folder: Path, slices: int = 3, frames: int = 1) -> Path:
    """A folder of images whose names and numbers say nothing of their order."""
    both = [(i, t) for i in range(slices) for t in range(frames)]
    random.Random(0).shuffle(both)
    for number, (index, frame) in enumerate(both):
        save(folder / f"IM{number:03d}", plane(index, frame))
    (folder / "LICENSE.txt").write_text("Free for all.")
    (folder / ".hidden.dcm").write_bytes(bytes(128) + b"DICM")
    return folder


def shown(scan) -> np.ndarray:
    return ifft2c(scan.kspace)[0].numpy()


def test_its_images_lie_in_the_first_folder_above_them(tmp_path: Path) -> None:
    folder = series(tmp_path / "P001" / "mr")
    for path in folder.glob("IM*"):
        file = pydicom.dcmread(path)
        file.PatientID = ""
        file.save_as(path)
    assert formats.read(folder, subject_folder=1).ids[0] == "mr/mr/000"
    assert formats.read(folder, subject_folder=2).ids[0] == "P001/mr.mr/000"


@pytest.mark.parametrize("frames", [1, 3])
def test_a_folder_is_one_scan_in_the_order_of_space_and_time(tmp_path: Path, frames: int) -> None:
    scans = formats.read(series(tmp_path / "heart", 4, frames))
    assert len(scans) == 4 * frames
    assert scans.format == "DICOM"
    for number, scan in enumerate(scans):
        index, frame = divmod(number, frames)
        np.testing.assert_allclose(shown(scan), image(10 * index + frame) * 0.5 + 3, atol=1e-3)
        assert scan.kspace.dtype == torch.complex64
        assert scan.mask.all()
        assert scan.measured.all()
        assert not scan.raw
        header = scan.header
        assert header.spacing == pytest.approx((2.0, 1.5, 5.0))  # measured, not the thickness
        assert (header.thickness, header.protocol) == (4.0, "cine")
        assert (header.repetition_time, header.echo_time, header.flip_angle) == (30, 1.5, 45)
        assert header.inversion_time is None
        corner = np.array([-10.0, *(20 + index * STEP[1:])])
        centre = corner + np.array([4 * 1.5, 2.5 * 2 * 0.8, 2.5 * 2 * 0.6])
        np.testing.assert_allclose(header.position, centre, atol=1e-9)
        np.testing.assert_allclose(header.directions, [[1, 0, 0], [0, 0.8, 0.6], STEP / 5], atol=1e-9)


def test_scans_of_a_patient_share_a_subject_that_names_nobody(tmp_path: Path) -> None:
    a, b = (formats.read(series(tmp_path / name)) for name in ("a", "b"))
    subject, scan, number = a.ids[1].split("/")
    assert (scan, number) == ("a", "001")
    assert subject.startswith("patient-")
    assert subject == b.ids[0].split("/")[0]
    assert "4711" not in a.ids[0]
    save(tmp_path / "other" / "x", plane(0, PatientID="4712"))
    assert formats.read(tmp_path / "other").ids[0].split("/")[0] != subject
    save(tmp_path / "nobody.dcm", plane(0, PatientID=""))
    assert formats.read(tmp_path / "nobody.dcm").ids == ("nobody/nobody/000",)


def test_one_file_is_one_slice(tmp_path: Path) -> None:
    save(tmp_path / "x.ima", plane(2))
    (scan,) = formats.read(tmp_path / "x.ima")
    assert scan.header.spacing == (2.0, 1.5, 4.0)
    save(tmp_path / "y", plane(2, SpacingBetweenSlices=4.5))
    assert formats.read(tmp_path / "y")[0].header.spacing == (2.0, 1.5, 4.5)


def test_signed_and_compressed_values(tmp_path: Path) -> None:
    stored = image(0).astype(np.int16) - 500
    save(
        tmp_path / "signed",
        plane(0, PixelRepresentation=1, BitsStored=16, HighBit=15, PixelData=stored.tobytes()),
    )
    np.testing.assert_allclose(shown(formats.read(tmp_path / "signed")[0]), stored * 0.5 + 3, atol=1e-3)
    packed = plane(0)
    packed.compress(RLELossless, generate_instance_uid=False)
    save(tmp_path / "rle", packed)
    np.testing.assert_allclose(shown(formats.read(tmp_path / "rle")[0]), image(0) * 0.5 + 3, atol=1e-3)


def enhanced(path: Path, **changed: object) -> Path:
    """Three frames in one file, not in the order of space; what all share stands once."""
    file = plane(0)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del file[name]
    for name in ("RescaleSlope", "RescaleIntercept", "EchoTime", "RepetitionTime", "TriggerTime"):
        del file[name]

    def holding(**values: object) -> list[Dataset]:
        item = Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        return [item]

    order = (2, 0, 1)
    file.SOPClassUID, file.NumberOfFrames = EnhancedMRImageStorage, len(order)
    file.SharedFunctionalGroupsSequence = holding(
        PlaneOrientationSequence=holding(ImageOrientationPatient=[1, 0, 0, 0, 0.8, 0.6]),
        PixelMeasuresSequence=holding(PixelSpacing=[2.0, 1.5], SliceThickness=4.0),
        MRTimingAndRelatedParametersSequence=holding(RepetitionTime=30, FlipAngle=20),
    )
    file.PerFrameFunctionalGroupsSequence = [
        holding(
            PlanePositionSequence=holding(ImagePositionPatient=list(plane(i).ImagePositionPatient)),
            PixelValueTransformationSequence=holding(RescaleSlope=1 + i, RescaleIntercept=0),
            MREchoSequence=holding(EffectiveEchoTime=2.5),
        )[0]
        for i in order
    ]
    file.PixelData = b"".join(image(i).tobytes() for i in order)
    for name, value in changed.items():
        setattr(file, name, value)
    save(path, file)
    return path


def test_enhanced_files_hold_all_slices(tmp_path: Path) -> None:
    scans = formats.read(enhanced(tmp_path / "all.dcm"))
    assert len(scans) == 3
    for index, scan in enumerate(scans):
        np.testing.assert_allclose(shown(scan), image(index) * (1.0 + index), rtol=1e-4, atol=1e-2)
        assert scan.header.spacing == pytest.approx((2.0, 1.5, 5.0))
        assert (scan.header.repetition_time, scan.header.echo_time, scan.header.flip_angle) == (30, 2.5, 20)
        np.testing.assert_allclose(
            scan.header.position, formats.read(series(tmp_path / "plain"))[index].header.position
        )


def without(name: str) -> Dataset:
    file = plane(1)
    del file[name]
    return file


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


BAD: list[tuple[Callable[[Path], object], str]] = [
    (
        lambda f: save(f / "ct", plane(1, SOPClassUID=CTImageStorage)),
        "ct: is CT Image Storage, not an MR image",
    ),
    (lambda f: save(f / "no", plane(1, SOPClassUID="1.2.3.4")), "no: is 1.2.3.4, not an MR image"),
    (lambda f: save(f / "big", plane(1, Rows=3, Columns=18)), "big: is 3×18, and IM000 6×9"),
    (
        lambda f: save(f / "loc", plane(1, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])),
        "loc: oriented otherwise than IM000",
    ),
    (lambda f: save(f / "lost", without("ImageOrientationPatient")), "lost: oriented otherwise"),
    (lambda f: save(f / "b", plane(1, SeriesInstanceUID="1.2.9")), "holds 2 series; put each into a folder"),
    (lambda f: save(f / "c", plane(1, PhotometricInterpretation="RGB")), r"c: is no grey image \('RGB'\)"),
    (lambda f: save(f / "many", plane(1, NumberOfFrames=2)), "many: does not say where its frames lie"),
    (lambda f: save(f / "empty", without("Rows")), "empty: damaged or incomplete"),
    (
        lambda f: (f / "junk").write_bytes(bytes(128) + b"DICM" + bytes(range(1, 255))),
        "junk: is of no known kind, not an MR image",
    ),
    (lambda f: cut(f / "IM000"), "IM000: damaged or incomplete"),
    (
        lambda f: save(f / "IM000", plane(0, PixelData=bytes(108), RescaleIntercept=0)),
        "IM000: the image is all zeros",
    ),
]


@pytest.mark.parametrize(("damage", "complaint"), BAD, ids=[complaint for _, complaint in BAD])
def test_what_cannot_be_read_gets_one_line(
    tmp_path: Path, damage: Callable[[Path], object], complaint: str
) -> None:
    damage(series(tmp_path / "s"))
    with pytest.raises(NorefError, match=complaint) as caught:
        list(formats.read(tmp_path / "s"))
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_bytes_gone_wrong_are_refused_or_read(tmp_path: Path) -> None:
    """Whatever pydicom makes of them, never anything but a line."""
    whole = enhanced(tmp_path / "whole").read_bytes()
    header, rng = len(whole) - 3 * image(0).nbytes, np.random.default_rng(0)
    refusals = list[str]()
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(132, header, 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "x").write_bytes(damaged)
        try:
            list(formats.read(tmp_path / "x"))
        except NorefError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert all(told.startswith(str(tmp_path / "x")) and "\n" not in told for told in refusals)


def test_compression_that_cannot_be_undone_is_named(tmp_path: Path) -> None:
    file = plane(0)
    file.file_meta.TransferSyntaxUID = JPEG2000
    file.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    file["PixelData"].is_undefined_length = True
    save(tmp_path / "j2k", file)
    decoder = pydicom.pixels.decoders.base.get_decoder(JPEG2000)
    complaint = (
        "damaged" if decoder.is_available else "compressed as JPEG 2000 Image Compression, which cannot"
    )
    with pytest.raises(NorefError, match=complaint):
        formats.read(tmp_path / "j2k")[0]


def test_dicom_has_no_axes_to_name(tmp_path: Path) -> None:
    for options in ({"axes": "slice,y,x"}, {"key": "k"}, {"mask_key": "m"}):
        with pytest.raises(NorefError, match="leave out axes, key and mask_key"):
            formats.read(series(tmp_path / "s"), **options)
    assert len(formats.read(tmp_path / "s", domain="image")) == 3


def test_folders_stand_for_their_files(tmp_path: Path) -> None:
    for name in ("b", "a"):
        series(tmp_path / "study" / name)
    (tmp_path / "study" / "notes").mkdir()
    assert files_of(str(tmp_path / "study")) == [tmp_path / "study" / "a", tmp_path / "study" / "b"]
    assert files_of(str(tmp_path / "study" / "a")) == [tmp_path / "study" / "a"]
    assert files_of(str(tmp_path / "st*" / "*")) == [tmp_path / "study" / "a", tmp_path / "study" / "b"]
    scans = open_scans(str(tmp_path / "study"))
    assert len(scans) == 6
    assert len({scan.subject for scan in scans}) == 1
    # Images beside raw files are reconstructions of these.
    formats.write(tmp_path / "study" / "a.npy", np.ones((1, 8, 8)))
    formats.write(tmp_path / "study" / "a.nii.gz", np.ones((1, 8, 8)))
    assert files_of(str(tmp_path / "study")) == [tmp_path / "study" / "a.npy"]


def test_a_store_keeps_what_images_say_of_themselves(tmp_path: Path) -> None:
    read = formats.read(series(tmp_path / "s"))
    made = Scans(read, Preparation(mask="random2d", acceleration=2, acs=4), Role.PROXY)
    write_store(tmp_path / "store", map(made.prepared, range(3)), made.how, made.role)
    for before, after in zip(read, Store(tmp_path / "store"), strict=True):
        assert after.header == before.header
        assert not after.raw
        assert not after.mask.all()


@pytest.mark.parametrize(
    "name", ["", "_implicit", "_bigendian", "_padded", "_expb", "_RLE", "_jp2klossless", "_jpeg_ls_lossless"]
)
def test_a_scanners_file_is_read_in_every_transfer_syntax(name: str) -> None:
    """One image as pydicom ships it; a compression is undone or, without a decoder, named."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    if not (folder / f"MR_small{name}.dcm").is_file():
        pytest.skip("this pydicom ships no such file")
    if (
        name.startswith("_jp")
        and not pydicom.pixels.decoders.base.get_decoder(
            pydicom.dcmread(folder / f"MR_small{name}.dcm").file_meta.TransferSyntaxUID
        ).is_available
    ):
        with pytest.raises(
            NorefError, match=r"compressed as JPEG.*, which cannot be undone here; decompress"
        ):
            formats.read(folder / f"MR_small{name}.dcm")
        return
    (scan,) = formats.read(folder / f"MR_small{name}.dcm")
    stored = pydicom.dcmread(folder / "MR_small.dcm")
    np.testing.assert_allclose(shown(scan).real, stored.pixel_array, atol=0.01)
    assert scan.header.spacing[:2] == pytest.approx(tuple(map(float, stored.PixelSpacing)))


@pytest.mark.real_data
def test_a_real_cine_is_sorted_by_place_then_time(real_data: Path) -> None:
    scans = formats.read(real_data / "cardiac_dicom")
    assert len(scans) == 10
    normal = np.array(scans[0].header.directions[2])
    heights = [np.dot(scan.header.position, normal) for scan in scans]
    # Of the first and the last place there is one phase, of the others two, at 348 and 929 ms.
    np.testing.assert_allclose(np.diff(heights), [8, 0, 8, 0, 8, 0, 8, 0, 8], atol=0.01)
    times = [float(pydicom.dcmread(frame.path).TriggerTime) for frame in scans.frames]
    assert times[1:-1] == [348, 929] * 4
    assert all(scan.shape == (256, 256) for scan in scans)
    assert all(scan.header.spacing == pytest.approx((1.3672, 1.3672, 8), abs=1e-3) for scan in scans)


@pytest.mark.real_data
def test_a_real_prostate_lies_where_its_files_say(real_data: Path) -> None:
    (folder,) = files_of(str(real_data / "prostate_dicom"))
    scans = formats.read(folder)
    assert len(scans) == 19
    files = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    files.sort(key=lambda file: file.ImagePositionPatient[2])
    assert "ProstateX-0000" not in scans.ids[0].split("/")[0]
    for scan, file in zip(scans, files, strict=True):
        stored = file.pixel_array.astype(float)
        np.testing.assert_allclose(shown(scan).real, stored, atol=1e-3 * stored.max())
        x, y = np.array(file.ImageOrientationPatient, float).reshape(2, 3)
        middle = np.array(file.ImagePositionPatient, float) + 191.5 * 0.5 * (x + y)
        np.testing.assert_allclose(scan.header.position, middle, atol=1e-6)
