"""Small Siemens raw files, written by twixtools or, of version VB, which it cannot write, by hand."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import twixtools
from twixtools import hdr_def, mdh_def
from twixtools.mdb import Mdb_local

COUNTERS = {
    "kspace_encode_step_1": "Lin",
    "kspace_encode_step_2": "Par",
    "average": "Ave",
    "slice": "Sli",
    "contrast": "Eco",
    "phase": "Phs",
    "repetition": "Rep",
    "set": "Set",
    "segment": "Seg",
}
"""ISMRMRD's names of counters, and Siemens'."""

MATRIX = (12, 8)
"""Columns and lines that `protocol` tells, if not told otherwise."""

Values = int | float | str
Measurement = tuple[str, bytes, Sequence[Mdb_local]]


def protocol(derived: dict[str, Values] | None = None, **told: Values) -> bytes:
    """The header of a measurement: what `MeasYaps` tells, with `_` for dots, and what `Meas` does.

    Keys such as `sKSpace_lBaseResolution`; 6 pixels of 2 mm along the read-out, oversampled twice, 8 lines.
    """
    columns, lines = MATRIX
    asked: dict[str, Values] = {
        "sKSpace_lBaseResolution": columns // 2,
        "sKSpace_ucTrajectory": "0x1",
        "sSliceArray_asSlice[0]_dReadoutFOV": columns,
        "sSliceArray_asSlice[0]_dPhaseFOV": 2 * lines,
        "sSliceArray_asSlice[0]_dThickness": 5,
        "sPat_lAccelFactPE": 1,
        "sPat_ucRefScanMode": "0x1",
        "sRXSPEC_alDwellTime[0]": 10000,
        "tProtocolName": '"gre"',
        **told,
    }
    yaps = "".join(f"{name.replace('_', '.')}\t = \t{value}\n" for name, value in asked.items())
    made = {
        "flReadoutOSFactor": 2.0,
        "iPEFTLength": lines,
        "iNoOfFourierLines": lines,
        "PatientID": "xxxx",
        **(derived or {}),
    }
    meas = "".join(_xprotocol(name, value) for name, value in made.items())
    buffers = {"Meas": meas, "MeasYaps": f"### ASCCONV BEGIN ###\n{yaps}\n### ASCCONV END ###\n"}
    packed = b"".join(
        name.encode() + b"\0" + struct.pack("<I", len(text)) + text.encode() for name, text in buffers.items()
    )
    # Samples begin at a multiple of 32 bytes.
    packed += bytes(-(8 + len(packed)) % 32)
    return struct.pack("<2I", 8 + len(packed), len(buffers)) + packed


def _xprotocol(name: str, value: Values) -> str:
    if isinstance(value, str):
        return f'<ParamString."{name}"> {{ "{value}" }}\n'
    kind = "Long" if isinstance(value, int) else "Double"
    return f'<Param{kind}."{name}"> {{ {value} }}\n'


def block(
    values: np.ndarray,
    *flags: str,
    centre_line: int = MATRIX[1] // 2,
    centre_partition: int = 0,
    centre_column: int | None = None,
    cut: tuple[int, int] = (0, 0),
    position: Sequence[float] = (0, 0, 0),
    quaternion: Sequence[float] = (1, 0, 0, 0),
    several: bool = True,
    **counters: int,
) -> Mdb_local:
    """One read-out of samples `(coils, samples)`; flags by twixtools' names, counters by ISMRMRD's."""
    made = Mdb_local(values, version_is_ve=several)
    for flag in flags:
        made.add_flag(flag)
    head = made.mdh
    head.CenterLin, head.CenterCol = (
        centre_line,
        values.shape[1] // 2 if centre_column is None else centre_column,
    )
    head.CenterPar = centre_partition
    for name, value in counters.items():
        setattr(head.Counter, COUNTERS[name], value)
    head.CutOff.Pre, head.CutOff.Post = cut
    head.SliceData.SlicePos.Sag, head.SliceData.SlicePos.Cor, head.SliceData.SlicePos.Tra = position
    head.SliceData.Quaternion[:] = quaternion
    return made


def lines(
    values: np.ndarray, *flags: str, rows: Sequence[int] | None = None, **head: object
) -> list[Mdb_local]:
    """The lines of k-space `(coils, ky, kx)`, or some of them, numbered by their rows."""
    chosen = range(values.shape[1]) if rows is None else rows
    return [block(values[:, row], *flags, kspace_encode_step_1=row, **head) for row in chosen]


def write(path: Path, *measurements: Measurement) -> Path:
    """Writes measurements, each of a name, a `protocol` and read-outs."""
    scans = []
    for name, header, blocks in measurements:
        entry = np.zeros(1, hdr_def.MrParcRaidFileEntry)[0]
        entry["protName_"] = name.encode()
        scans.append({"hdr_str": np.frombuffer(header, "S1"), "mdb": list(blocks), "raidfile_hdr": entry})
    with contextlib.redirect_stdout(io.StringIO()):
        twixtools.write_twix(scans, str(path))
    return path


def write_vb(path: Path, header: bytes, blocks: Sequence[Mdb_local]) -> Path:
    """Writes the measurement of a VB file, a header before the samples of every channel."""
    end = mdh_def.VB17_header()
    mdh_def.add_flag(end, "ACQEND")
    with path.open("xb") as file:
        file.write(header)
        for one in blocks:
            for samples in one.data:
                file.write(bytes(one.mdh))
                file.write(samples.tobytes())
        file.write(bytes(end) + bytes(32))
    return path
