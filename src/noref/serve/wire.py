"""MRD messages on a socket: a little-endian 16-bit number that says what follows, and then that.

As ISMRMRD's documentation of its streams has it, https://ismrmrd.readthedocs.io/en/latest/mrd_messages.html.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noref.errors import NorefError
from noref.formats.mrd_images import MrdImage
from noref.formats.mrd_records import DATA_TYPES, image_head_type, readout_head_type

PORT = 9002
"""Where scanners look for a reconstruction."""

MIB = 2**20

LONGEST_TEXT = 16 * MIB
"""Bytes of a text, header or configuration beyond which its length must be wrong."""

_NAME, _WAVEFORM_HEAD = 1024, 40
_PIECE = 2**16


class Id(IntEnum):
    """The numbers that messages begin with."""

    CONFIGURATION_FILE = 1
    CONFIGURATION = 2
    METADATA = 3
    CLOSE = 4
    TEXT = 5
    ACQUISITION = 1008
    IMAGE = 1022
    WAVEFORM = 1026


@dataclass(frozen=True)
class Text:
    """A message of text: a configuration, the XML header, or what one side tells the other."""

    id: Id
    text: bytes

    def __str__(self) -> str:
        return self.text.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Readout:
    """One read-out.

    Attributes:
        head: its header, one record of `readout_head_type`.
        positions: its trajectory, float32, sample by sample.
        samples: coil by coil, float32, real and imaginary parts in turn.
    """

    head: NDArray[Any]
    positions: NDArray[np.float32]
    samples: NDArray[np.float32]


@dataclass(frozen=True)
class Close:
    """The end of what a side has to say."""


@dataclass(frozen=True)
class Skipped:
    """A message that was read and thrown away."""

    id: Id


Message = Text | Readout | MrdImage | Close | Skipped


class Ended(NorefError):
    """The other side has gone, or said nothing for too long."""


@dataclass
class Wire:
    """A connection that speaks MRD. One thread may receive while another one sends.

    Attributes:
        peer: the connected socket.
        patience: seconds to wait for the next message, for the rest of one, and until one is taken.
        largest: bytes of a message that will be kept; more is refused before it is read.
        images: whether images are wanted; else they are skipped.
    """

    peer: socket.socket
    patience: float
    largest: int
    images: bool = False
    _out: socket.socket = field(init=False)
    _deadline: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        # What one thread does to the timeout of its half is nothing to the other.
        self._out = self.peer.dup()
        self._out.settimeout(self.patience)

    def receive(self) -> Message | None:
        """The next message; None if the other side has ended without one.

        Raises:
            Ended: if it ended inside a message, or nothing came in time.
            NorefError: if the message is unknown or larger than allowed.
        """
        self._deadline = time.monotonic() + self.patience
        start = self._some(2)
        if not start:
            return None
        self._deadline = time.monotonic() + self.patience
        number = int.from_bytes(start if len(start) == 2 else start + self._exactly(1).tobytes(), "little")
        if number == Id.CLOSE:
            return Close()
        if number == Id.CONFIGURATION_FILE:
            return Text(Id.CONFIGURATION_FILE, self._exactly(_NAME).tobytes().split(b"\0", 1)[0])
        if number in (Id.CONFIGURATION, Id.METADATA, Id.TEXT):
            length = self._allowed(int(self._record("<u4")), "text", min(self.largest, LONGEST_TEXT))
            return Text(Id(number), self._exactly(length).tobytes().rstrip(b"\0"))
        if number == Id.ACQUISITION:
            return self._readout()
        if number == Id.IMAGE:
            return self._image()
        if number == Id.WAVEFORM:
            head = self._exactly(_WAVEFORM_HEAD)
            channels, samples = _waveform_size(head)
            self._skip(4 * channels * samples)
            return Skipped(Id.WAVEFORM)
        raise NorefError(f"message {number} is unknown, and so is where the next one begins; send MRD 1")

    def send(self, *messages: Message) -> None:
        """Sends messages, all of each.

        Raises:
            OSError: if the other side has gone, or takes nothing for too long.
        """
        self._out.sendall(b"".join(map(_bytes, messages)))

    def hang_up(self) -> None:
        """Ends what either side is waiting for; `end` is still to be called."""
        with suppress(OSError):
            self.peer.shutdown(socket.SHUT_RDWR)

    def end(self, linger: float = 0.0) -> None:
        """Ends the connection.

        Args:
            linger: seconds in which what the other side still sends is thrown away: answered with a reset, it
                might lose what it was told last.
        """
        with suppress(OSError, Ended):
            self._out.shutdown(socket.SHUT_WR)
            self._deadline = time.monotonic() + linger
            while linger and self._some(_PIECE):
                pass
        self.hang_up()
        self._out.close()
        self.peer.close()

    def _readout(self) -> Readout:
        head = self._record(readout_head_type())
        samples, coils = int(head["number_of_samples"]), int(head["active_channels"])
        positions = samples * int(head["trajectory_dimensions"])
        self._allowed(8 * samples * coils + 4 * positions, "read-out", self.largest)
        return Readout(head, self._floats(positions), self._floats(2 * samples * coils))

    def _image(self) -> Message:
        head = self._record(image_head_type())
        told = int(self._record("<u8"))
        kind = DATA_TYPES.get(int(head["data_type"]))
        if kind is None:
            raise NorefError(f"an image of the unknown type {head['data_type']}; send MRD 1")
        x, y, z = (int(size) for size in head["matrix_size"])
        shape = (int(head["channels"]), z, y, x)
        size = int(np.prod(shape, dtype=object)) * kind.itemsize
        if not self.images:
            self._skip(told + size)
            return Skipped(Id.IMAGE)
        self._allowed(told + size, "image", self.largest)
        attributes = self._exactly(told).tobytes().rstrip(b"\0").decode("utf-8", "replace")
        return MrdImage(head, attributes, self._exactly(size).view(kind).reshape(shape))

    def _record(self, kind: np.dtype[Any] | str) -> NDArray[Any]:
        dtype = np.dtype(kind)
        return self._exactly(dtype.itemsize).view(dtype).reshape(())

    def _floats(self, count: int) -> NDArray[np.float32]:
        return self._exactly(4 * count).view("<f4")

    @staticmethod
    def _allowed(size: int, what: str, limit: int) -> int:
        if size > limit:
            raise NorefError(
                f"a {what} of {size / MIB:.0f} MiB was announced, and at most {limit / MIB:.0f} are allowed; "
                "raise the server's --memory if that is so"
            )
        return size

    def _exactly(self, size: int) -> NDArray[np.uint8]:
        # Of memory that was only announced the system gives nothing until it is filled.
        found = np.empty(size, np.uint8)
        view, got = memoryview(found.data), 0
        while got < size:
            count = self._into(view[got:])
            if count == 0:
                raise Ended("the connection ended inside a message; send the scan again")
            got += count
        return found

    def _skip(self, size: int) -> None:
        while size:
            piece = self._some(min(size, _PIECE))
            if not piece:
                raise Ended("the connection ended inside a message; send the scan again")
            size -= len(piece)

    def _some(self, size: int) -> bytes:
        found = bytearray(size)
        return bytes(found[: self._into(memoryview(found))])

    def _into(self, view: memoryview) -> int:
        left = self._deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self.peer.settimeout(left)
            return self.peer.recv_into(view)
        except TimeoutError:
            raise Ended(f"nothing came for {self.patience:.0f} s; send the scan again") from None
        except OSError as error:
            raise Ended(f"the connection was lost ({(error.strerror or str(error)).lower()})") from None


def _waveform_size(head: NDArray[np.uint8]) -> tuple[int, int]:
    # Unlike those of read-outs and images, this header is not packed.
    samples, channels = np.frombuffer(head.tobytes(), "<u2", 2, offset=28)
    return int(channels), int(samples)


def _bytes(message: Message) -> bytes:
    if isinstance(message, Close):
        return _number(Id.CLOSE)
    if isinstance(message, Text):
        if message.id is Id.CONFIGURATION_FILE:
            return _number(message.id) + message.text[: _NAME - 1].ljust(_NAME, b"\0")
        text = message.text + b"\0"
        return _number(message.id) + len(text).to_bytes(4, "little") + text
    if isinstance(message, Readout):
        parts = (message.head, message.positions, message.samples)
        return _number(Id.ACQUISITION) + b"".join(part.tobytes() for part in parts)
    if isinstance(message, MrdImage):
        text = message.attributes.encode()
        head, data = message.head.tobytes(), message.data.tobytes()
        return _number(Id.IMAGE) + head + len(text).to_bytes(8, "little") + text + data
    raise TypeError(f"a {type(message).__name__} is never sent")


def _number(of: Id) -> bytes:
    return int(of).to_bytes(2, "little")
