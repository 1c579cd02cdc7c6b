"""One matrix for all scans of an encoding space whose header tells none: that of all their read-outs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from noref.formats.mrd_header import CARTESIAN, EncodingSpace, Space
from noref.formats.mrd_measurement import Measurement
from noref.formats.mrd_readouts import NO_IMAGE, Flag, Table, flagged


def with_matrices(one: Measurement) -> Measurement:
    """A measurement whose Cartesian encoding spaces all have an encoded matrix.

    Where the header tells none, it is as large as the longest read-out, and as the last line and partition of
    any scan or the encoding limits: a scan that lacks a line at the edge keeps the others' matrix and centre.

    Args:
        one: a measurement.
    """
    used = one.table[~flagged(one.table, NO_IMAGE | Flag.NOISE)]
    number = used["encoding_space_ref"]
    spaces = list(one.header.spaces)
    for n in np.unique(number).tolist():
        spaces += [EncodingSpace()] * (n + 1 - len(spaces))
        spaces[n] = _with_matrix(spaces[n], used[number == n])
    return replace(one, header=replace(one.header, spaces=spaces))


def _with_matrix(space: EncodingSpace, table: Table) -> EncodingSpace:
    if space.trajectory not in CARTESIAN:
        return space
    x, y, z = space.encoded.matrix
    # Of uneven samples their number is not the matrix.
    if space.gradient is None:
        x = x or int(table["number_of_samples"].max())
    last = space.lines.maximum if space.lines else 0
    y = y or max(int(table["kspace_encode_step_1"].max()), last) + 1
    # A clinical matrix of one partition is that of a slice, and tells nothing of a volume's.
    if space.recon.matrix[2] == 0:
        last = space.partitions.maximum if space.partitions else 0
        z = z or max(int(table["kspace_encode_step_2"].max()), last) + 1
    return replace(space, encoded=Space((x, y, z), space.encoded.view))
