"""The client: streams the raw data of a file to a server, and takes the images that come back."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.formats.base import name_of, opened
from noref.formats.mrd_header import MrdHeader, parse
from noref.formats.mrd_images import MrdImage, header_of, write_series
from noref.formats.mrd_readouts import Flag, flagged, is_data, read_table
from noref.formats.mrd_records import readout_head_type
from noref.scan import Header
from noref.serve.images import made_by
from noref.serve.session import ERROR
from noref.serve.wire import MIB, Close, Id, Message, Readout, Text, Wire

LARGEST = 2048 * MIB
"""Bytes of an image beyond which a server must be wrong."""

BLOCK = 256
"""Read-outs taken from a file at a time."""


@dataclass(frozen=True)
class Answer:
    """What a server made of a file.

    Attributes:
        images: sorted by encoding space, contrast, phase, repetition, set, average and slice.
        xml: header of the file's measurement.
    """

    images: Sequence[MrdImage]
    xml: bytes

    def write(self, path: Path) -> None:
        """Writes the images with all that their headers say, as ISMRMRD HDF5.

        Those of a series that differ in size or type from its first ones are series behind the others.
        """
        series: dict[int, list[MrdImage]] = {}
        others: dict[object, list[MrdImage]] = {}
        for one in self.images:
            number, kind = int(one.head["image_series_index"]), (one.data.shape, one.data.dtype)
            first = series.setdefault(number, [one])[0]
            if kind != (first.data.shape, first.data.dtype):
                others.setdefault((number, kind), []).append(one)
            elif first is not one:
                series[number].append(one)
        for number, some in enumerate(others.values(), max(series, default=-1) + 1):
            series[number] = [_of_series(one, number) for one in some]
        write_series(path, series, self.xml)

    def slices(self, path: Path) -> tuple[list[NDArray[Any]], list[Header], str]:
        """The images `(y, x)`, their headers, and what made them, for `noref.formats.write`.

        Raises:
            NorefError: if they have several channels or partitions.
        """
        if any(one.data.shape[:2] != (1, 1) for one in self.images):
            raise NorefError(f"{path}: the images have several channels or partitions; write .mrd")
        header = parse(self.xml) or MrdHeader()
        headers = [header_of(one, header) for one in self.images]
        return [one.data[0, 0] for one in self.images], headers, made_by(self.images[0])


def _of_series(one: MrdImage, number: int) -> MrdImage:
    head = one.head.copy()
    head["image_series_index"] = number
    return replace(one, head=head)


def received(
    path: Path, *, host: str, port: int, group: str | None = None, patience: float = 600.0
) -> Answer:
    """What a server makes of a file's raw data.

    Args:
        path: of an ISMRMRD HDF5 file.
        host: where the server listens.
        port: of the server.
        group: the measurement to send; the only one with images if None.
        patience: seconds to wait for an answer.

    Raises:
        NorefError: if the file cannot be read or sent, the server refuses a part of it or is not there, or it
            sends no image.
    """
    if os.access(path, os.R_OK) and not h5py.is_hdf5(path):
        raise NorefError(f"{path}: is no HDF5; what is streamed is ISMRMRD (MRD 1) HDF5, so convert it first")
    with opened(path) as file:
        xml, messages = messages_of(path, file, group)
        try:
            peer = socket.create_connection((host, port), timeout=10)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise NorefError(f"{host}:{port}: no server there ({reason}); start noref serve") from None
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = Wire(peer, patience, LARGEST, images=True)
        taker = _Taker(wire)
        taker.start()
        try:
            for message in messages:
                if taker.done or not _sent(wire, message):
                    break
            taker.join()
        finally:
            wire.end()
    if taker.error:
        raise NorefError(f"{path}: refused by {host}:{port}: {taker.error}")
    if not taker.images:
        raise NorefError(f"{path}: {host}:{port} made no image of it; see its log")
    order = ("image_series_index", "contrast", "phase", "repetition", "set", "average", "slice")
    images = sorted(taker.images, key=lambda one: [int(one.head[name]) for name in order])
    return Answer(images, xml)


def messages_of(path: Path, file: h5py.File, group: str | None) -> tuple[bytes, Iterator[Message]]:
    """The header of a file's measurement, and all messages of a scan, from configuration to close.

    Raises:
        NorefError: if there is no such measurement, or several and none is named.
    """
    tables = {name: read_table(path, file[name]["data"]) for name in _groups(file)}
    if group is not None and group not in tables:
        raise NorefError(f"{path}: no measurement {group}; there are {', '.join(tables) or 'none'}")
    with_images = [name for name, table in tables.items() if not flagged(table, Flag.NOISE).all()]
    if group is None and len(with_images) != 1:
        found = f"holds {len(with_images)} measurements, {', '.join(with_images)}" if with_images else ""
        raise NorefError(f"{path}: {found or 'holds no read-outs of an image'}; name one with --group")
    chosen = group or with_images[0]
    place = file[chosen]
    texts = np.ravel(place["xml"][()]).tolist() if "xml" in place else []
    xml = bytes(texts[0]) if texts else b""
    # Scanners keep noise scans in a measurement of their own.
    noisy = [name for name, table in tables.items() if flagged(table, Flag.NOISE).any()]
    groups = [chosen] if chosen in noisy or not noisy else [noisy[0], chosen]

    def messages() -> Iterator[Message]:
        yield Text(Id.CONFIGURATION_FILE, b"noref")
        yield Text(Id.METADATA, xml)
        yield Text(Id.TEXT, json.dumps({"parameters": {"name": name_of(path), "images": "complex"}}).encode())
        for name in groups:
            numbers = np.arange(len(tables[name]))
            if name != chosen:
                numbers = numbers[flagged(tables[name], Flag.NOISE)]
            yield from _readouts(file[name]["data"], numbers)
        yield Close()

    return xml, messages()


def _groups(file: h5py.File) -> list[str]:
    found = list[str]()

    def visit(name: str, item: Any) -> None:
        group, _, last = name.rpartition("/")
        if last == "data" and is_data(item):
            found.append(group or "/")

    file.visititems(visit)
    return sorted(found)


def _readouts(data: h5py.Dataset, numbers: Any) -> Iterator[Readout]:
    kind = readout_head_type()
    for start in range(0, len(numbers), BLOCK):
        for record in data[numbers[start : start + BLOCK]]:
            head = np.zeros((), kind)
            _copy(head, record["head"])
            where = record["traj"] if "traj" in record.dtype.names else np.zeros(0)
            parts = [np.ascontiguousarray(values, "<f4") for values in (where, record["data"])]
            yield Readout(head, parts[0], parts[1])


def _copy(to: Any, record: Any) -> None:
    """Copies the fields that both have."""
    for name in set(to.dtype.names) & set(record.dtype.names):
        if to.dtype[name].names:
            _copy(to[name], record[name])
        else:
            to[name] = record[name]


def _sent(wire: Wire, message: Message) -> bool:
    """Whether a server took a message; why it did not is among what it says."""
    try:
        wire.send(message)
    except OSError:
        return False
    return True


class _Taker(threading.Thread):
    """Takes what comes back, while the file is still being sent."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(daemon=True)
        self._wire = wire
        self.images: list[MrdImage] = []
        self.error = ""
        self.done = False

    def run(self) -> None:
        try:
            while (message := self._wire.receive()) is not None:
                if isinstance(message, Close):
                    break
                if isinstance(message, MrdImage):
                    self.images.append(message)
                elif isinstance(message, Text) and str(message).startswith(ERROR):
                    # What comes first is the reason for the rest.
                    self.error = self.error or str(message).removeprefix(ERROR).strip()
            else:
                self.error = self.error or "it ended the connection without a close; see its log"
        except NorefError as error:
            self.error = self.error or str(error)
        finally:
            self.done = True
