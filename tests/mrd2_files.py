"""Streams of MRD version 2 that hold what files of version 1 do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import mrd
import numpy as np

with warnings.catch_warnings():
    import ismrmrd

_COUNTERS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)


def converted(path: Path, to: Path, group: str = "dataset") -> Path:
    """Writes a measurement of version 1 as a stream of version 2, by the formats' own packages."""
    with ismrmrd.Dataset(str(path), group, create_if_needed=False) as file:
        header = header_of(file.read_xml_header())
        found = [file.read_acquisition(i) for i in range(file.number_of_acquisitions())]
    return stream(to, header, (acquisition_of(one) for one in found))


def stream(to: Path, header: mrd.Header | None, acquisitions: Iterator[mrd.Acquisition]) -> Path:
    """Writes a stream."""
    with to.open("wb") as file, mrd.BinaryMrdWriter(file) as writer:
        writer.write_header(header)
        writer.write_data(mrd.StreamItem.Acquisition(one) for one in acquisitions)
    return to


def acquisition_of(one: ismrmrd.Acquisition) -> mrd.Acquisition:
    """A read-out of version 1 as one of version 2."""
    counters = mrd.EncodingCounters(**{name: int(getattr(one.idx, name)) for name in _COUNTERS})
    if hasattr(mrd.AcquisitionHeader(), "sample_time_ns"):
        time = {"sample_time_ns": round(1000 * one.sample_time_us)}
    else:
        time = {"sample_time_us": one.sample_time_us}
    head = mrd.AcquisitionHeader(
        flags=mrd.AcquisitionFlags(one.flags),
        idx=counters,
        discard_pre=one.discard_pre,
        discard_post=one.discard_post,
        # What is not given is left out.
        center_sample=one.center_sample or None,
        encoding_space_ref=one.encoding_space_ref,
        **time,
        **{
            name: np.array(getattr(one, name), np.float32)
            for name in ("position", "read_dir", "phase_dir", "slice_dir")
        },
    )
    trajectory = np.ascontiguousarray(one.traj.T, np.float32)
    return mrd.Acquisition(head=head, data=np.array(one.data, np.complex64), trajectory=trajectory)


def header_of(text: bytes) -> mrd.Header:
    """What a header of version 1 says of encodings, subject, protocol and noise."""
    root = ElementTree.fromstring(text)
    bandwidth = told(root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth")
    strength = told(root, "acquisitionSystemInformation/systemFieldStrength_T")
    timing = {
        name: [float(one.text) for one in root.findall(f"{{*}}sequenceParameters/{{*}}{tag}")]
        for tag, name in (("TR", "t_r"), ("TE", "t_e"), ("TI", "t_i"), ("flipAngle_deg", "flip_angle_deg"))
    }
    longs = [
        mrd.UserParameterLongType(name=told(one, "name"), value=int(told(one, "value")))
        for one in root.findall("{*}userParameters/{*}userParameterLong")
    ]
    return mrd.Header(
        subject_information=mrd.SubjectInformationType(
            patient_id=told(root, "subjectInformation/patientID") or None
        ),
        measurement_information=mrd.MeasurementInformationType(
            protocol_name=told(root, "measurementInformation/protocolName")
        ),
        acquisition_system_information=mrd.AcquisitionSystemInformationType(
            relative_receiver_noise_bandwidth=float(bandwidth) if bandwidth else None,
            system_field_strength_t=float(strength) if strength else None,
            system_vendor=told(root, "acquisitionSystemInformation/systemVendor") or None,
        ),
        sequence_parameters=mrd.SequenceParametersType(**timing),
        user_parameters=mrd.UserParametersType(user_parameter_long=longs),
        encoding=[_encoding(one) for one in root.findall("{*}encoding")],
    )


def told(element: ElementTree.Element, path: str) -> str:
    """The text at a path, whatever its namespace; empty if there is none."""
    return element.findtext("/".join(f"{{*}}{tag}" for tag in path.split("/"))) or ""


def _encoding(one: ElementTree.Element) -> mrd.EncodingType:
    limits = mrd.EncodingLimitsType()
    for name in ("kspace_encoding_step_1", "kspace_encoding_step_2", "slice", "repetition"):
        found = {key: told(one, f"encodingLimits/{name}/{key}") for key in ("minimum", "maximum", "center")}
        if all(found.values()):
            setattr(limits, name, mrd.LimitType(**{key: int(value) for key, value in found.items()}))
    parallel = None
    if one.find("{*}parallelImaging") is not None:
        factors = {
            name: int(told(one, f"parallelImaging/accelerationFactor/{name}") or 0)
            for name in ("kspace_encoding_step_1", "kspace_encoding_step_2")
        }
        mode = told(one, "parallelImaging/calibrationMode")
        parallel = mrd.ParallelImagingType(
            acceleration_factor=mrd.AccelerationFactorType(**factors),
            calibration_mode=mrd.CalibrationMode[mode.upper()] if mode else None,
        )
    described = None
    if one.find("{*}trajectoryDescription") is not None:
        kinds = {"long": (mrd.UserParameterLongType, int), "double": (mrd.UserParameterDoubleType, float)}
        parameters = {
            f"user_parameter_{kind}": [
                make(name=told(parameter, "name"), value=number(told(parameter, "value")))
                for parameter in one.findall(f"{{*}}trajectoryDescription/{{*}}userParameter{kind.title()}")
            ]
            for kind, (make, number) in kinds.items()
        }
        described = mrd.TrajectoryDescriptionType(
            identifier=told(one, "trajectoryDescription/identifier"), **parameters
        )
    return mrd.EncodingType(
        encoded_space=_space(one, "encodedSpace"),
        recon_space=_space(one, "reconSpace"),
        encoding_limits=limits,
        trajectory=mrd.Trajectory[told(one, "trajectory").upper()],
        trajectory_description=described,
        parallel_imaging=parallel,
    )


def _space(one: ElementTree.Element, name: str) -> mrd.EncodingSpaceType:
    size = {axis: int(told(one, f"{name}/matrixSize/{axis}")) for axis in "xyz"}
    view = {axis: float(told(one, f"{name}/fieldOfView_mm/{axis}") or 0) for axis in "xyz"}
    return mrd.EncodingSpaceType(
        matrix_size=mrd.MatrixSizeType(**size), field_of_view_mm=mrd.FieldOfViewMm(**view)
    )
