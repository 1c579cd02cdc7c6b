"""Messages: byte for byte those of the format's own package, read whatever the network does to them."""

from __future__ import annotations

import itertools
import socket
import threading
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrd_files import NOISE, kspace, readout

from noref.errors import NorefError
from noref.formats.mrd_images import MrdImage, image
from noref.serve.wire import MIB, Close, Ended, Id, Message, Readout, Skipped, Text, Wire

with warnings.catch_warnings():
    import ismrmrd

Pair = tuple[Wire, socket.socket]


def connect(patience: float = 10, largest: int = MIB, images: bool = False) -> Pair:
    mine, theirs = socket.socketpair()
    return Wire(mine, patience, largest, images), theirs


@pytest.fixture
def pair() -> Iterator[Pair]:
    wire, theirs = connect(images=True)
    yield wire, theirs
    theirs.close()
    wire.end()


def theirs_of(number: int, one: object) -> bytes:
    found = [number.to_bytes(2, "little")]
    one.serialize_into(lambda part: found.append(bytes(part)))  # type: ignore[attr-defined] # the package's
    return b"".join(found)


def acquisition(coils: int = 3, samples: int = 7, axes: int = 2) -> ismrmrd.Acquisition:
    traj = np.random.default_rng(1).random((samples, axes)).astype(np.float32) if axes else None
    head = {"position": (1, 2, 3), "slice": 4, "kspace_encode_step_1": 5, "acquisition_time_stamp": 6}
    return readout(kspace(coils, samples), NOISE, traj=traj, **head)


def magnitudes() -> ismrmrd.Image:
    made = ismrmrd.Image.from_array(np.arange(30, dtype=np.float32).reshape(5, 6), transpose=False)
    made.meta["ImageComment"] = "é"
    return made


def waveform(channels: int = 5, samples: int = 11) -> ismrmrd.Waveform:
    return ismrmrd.Waveform.from_array(np.arange(channels * samples, dtype=np.uint32).reshape(channels, -1))


def all_messages() -> bytes:
    return b"".join(
        [
            (1).to_bytes(2, "little") + b"default.xml".ljust(1024, b"\0"),
            (2).to_bytes(2, "little") + (4).to_bytes(4, "little") + b"abc\0",
            (3).to_bytes(2, "little") + (7).to_bytes(4, "little") + "<ä/>\0".encode() + b"\0",
            theirs_of(1008, acquisition()),
            theirs_of(1026, waveform()),
            theirs_of(1008, acquisition(axes=0)),
            theirs_of(1022, magnitudes()),
            (4).to_bytes(2, "little"),
        ]
    )


def take(wire: Wire) -> list[Message | None]:
    found: list[Message | None] = []
    while not found or found[-1] is not None:
        found.append(wire.receive())
    return found[:-1]


def check(found: list[Message | None]) -> None:
    file, configuration, xml, first, skipped, second, shown, close = found
    assert file == Text(Id.CONFIGURATION_FILE, b"default.xml")
    assert configuration == Text(Id.CONFIGURATION, b"abc")
    assert (str(xml), skipped, close) == ("<ä/>", Skipped(Id.WAVEFORM), Close())
    for one, axes in ((first, 2), (second, 0)):
        own = acquisition(axes=axes)
        assert isinstance(one, Readout)
        assert one.head.tobytes() == bytes(own.getHead())
        np.testing.assert_array_equal(one.samples.view(np.complex64).reshape(3, 7), own.data)
        np.testing.assert_array_equal(one.positions, own.traj.ravel())
    assert isinstance(shown, MrdImage)
    assert "é" in shown.attributes
    assert shown.attributes == magnitudes().attribute_string
    np.testing.assert_array_equal(shown.data, magnitudes().data)


def test_messages_of_the_package_are_read(pair: Pair) -> None:
    wire, theirs = pair
    theirs.sendall(all_messages())
    theirs.shutdown(socket.SHUT_WR)
    check(take(wire))


def test_and_also_if_they_come_byte_by_byte(pair: Pair) -> None:
    wire, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    def drip() -> None:
        for byte in all_messages():
            theirs.sendall(bytes([byte]))
        theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=drip)
    thread.start()
    check(take(wire))
    thread.join()


def test_what_is_sent_is_what_was_read(pair: Pair) -> None:
    wire, theirs = pair
    theirs.sendall(all_messages())
    theirs.shutdown(socket.SHUT_WR)
    found = take(wire)
    back, mine = connect(images=True)
    for message in found:
        if not isinstance(message, Skipped | None):
            back.send(message)
    mine.settimeout(0.2)
    expected = all_messages().replace(theirs_of(1026, waveform()), b"")
    # A text of noref's ends in one zero.
    expected = expected.replace(
        (7).to_bytes(4, "little") + "<ä/>\0\0".encode(), b"\6\0\0\0" + "<ä/>\0".encode()
    )
    sent = b""
    while len(sent) < len(expected):
        sent += mine.recv(1 << 16)
    assert sent == expected
    mine.close()
    back.end()


@pytest.mark.parametrize("kind", [np.complex64, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (5, 6), (7, 3)])
def test_images_are_read_by_the_package(pair: Pair, kind: type, shape: tuple[int, int]) -> None:
    wire, theirs = pair
    values = kspace(1, *shape)[0].astype(kind) if kind is np.complex64 else kspace(1, *shape)[0].real
    wire.send(image(values, (1.0, 2.0, 3.0), magnitudes().attribute_string))
    wire.end()
    file = theirs.makefile("rb")
    assert int.from_bytes(file.read(2), "little") == 1022
    read = ismrmrd.Image.deserialize_from(file.read)
    assert file.read() == b""
    file.close()
    np.testing.assert_array_equal(read.data, values[None, None])
    assert read.meta["ImageComment"] == "é"
    assert tuple(read.field_of_view) == (1, 2, 3)


def test_a_message_that_breaks_off_is_noticed() -> None:
    whole = all_messages()
    for cut in [*range(1, 1100, 37), *range(1100, len(whole), 53), *between(whole)]:
        wire, theirs = connect(images=True)
        theirs.sendall(whole[:cut])
        theirs.close()
        if cut in between(whole):
            take(wire)
        else:
            with pytest.raises(Ended, match="inside a message"):
                take(wire)
        wire.end()


def between(whole: bytes) -> list[int]:
    """Where messages end, by the sizes that the format gives them."""
    one, two, three, four = (
        len(theirs_of(number, made))
        for number, made in (
            (1008, acquisition()),
            (1026, waveform()),
            (1008, acquisition(axes=0)),
            (1022, magnitudes()),
        )
    )
    found = list(itertools.accumulate([2 + 1024, 2 + 4 + 4, 2 + 4 + 7, one, two, three, four, 2]))
    assert found[-1] == len(whole)
    return found


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    for start in (b"", b"\x02\0", b"\xf0\x03", b"\xfe\x03", b"\x02\x04"):
        wire, theirs = connect(largest=65536, images=True)
        theirs.sendall(start + noise)
        theirs.close()
        with suppress(NorefError):
            take(wire)
        wire.end()


def huge(number: int) -> bytes:
    """The beginning of a message that announces more than any machine has."""
    start = number.to_bytes(2, "little")
    if number in (2, 3, 5):
        return start + b"\xff\xff\xff\xff"
    one = theirs_of(number, acquisition() if number == 1008 else magnitudes())
    size = 340 if number == 1008 else 198
    head = np.frombuffer(one[2 : 2 + size], np.uint8).copy()
    if number == 1008:
        kind = ismrmrd.AcquisitionHeader.from_buffer(head)
        kind.number_of_samples = kind.active_channels = 65535
    else:
        kind = ismrmrd.ImageHeader.from_buffer(head)
        kind.matrix_size[:] = (65535, 65535, 65535)
    return start + head.tobytes() + (b"\xff" * 8 if number == 1022 else b"")


@pytest.mark.parametrize("number", [2, 3, 5, 1008, 1022])
def test_what_is_only_announced_takes_no_memory(number: int) -> None:
    wire, theirs = connect(images=True, largest=64 * MIB)
    theirs.sendall(huge(number))
    tracemalloc.start()
    with pytest.raises(NorefError, match="was announced, and at most"):
        wire.receive()
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()
    theirs.close()
    wire.end()


def test_images_and_waveforms_are_skipped_in_pieces() -> None:
    wire, theirs = connect()
    big = ismrmrd.Image.from_array(np.zeros((2000, 2000), np.float32), transpose=False)
    data = theirs_of(1022, big) + theirs_of(1026, waveform(60, 60000)) + b"\4\0"
    thread = threading.Thread(target=theirs.sendall, args=(data,))
    thread.start()
    tracemalloc.start()
    assert [wire.receive() for _ in range(3)] == [Skipped(Id.IMAGE), Skipped(Id.WAVEFORM), Close()]
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()
    thread.join()
    theirs.close()
    wire.end()


def test_unknown_messages_are_refused(pair: Pair) -> None:
    wire, theirs = pair
    theirs.sendall((77).to_bytes(2, "little"))
    with pytest.raises(NorefError, match="message 77 is unknown"):
        wire.receive()


def test_silence_and_dripping_end() -> None:
    for start in (b"", b"\xf0", b"\xf0\x03abc"):
        wire, theirs = connect(patience=0.2)
        theirs.sendall(start)
        with pytest.raises(Ended, match="nothing came"):
            wire.receive()
        theirs.close()
        wire.end()
    wire, theirs = connect(patience=0.5)
    stop = threading.Event()

    def drip() -> None:
        theirs.sendall(b"\xf0\x03")
        while not stop.wait(0.02):
            theirs.sendall(b"a")

    thread = threading.Thread(target=drip)
    thread.start()
    # Each byte comes in time, and the message never.
    with pytest.raises(Ended, match="nothing came"):
        wire.receive()
    stop.set()
    thread.join()
    theirs.close()
    wire.end()


def test_who_takes_nothing_is_given_up() -> None:
    wire, theirs = connect(patience=0.3)
    big = image(np.zeros((2000, 2000), np.float32), (1, 1, 1))
    with pytest.raises(TimeoutError):
        wire.send(big)
    theirs.close()
    wire.end()
