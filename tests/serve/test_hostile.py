"""Clients that are broken or mean: each gets its answer, and the next scan its images."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mrd_files import ismrmrd, kspace, lines, readout, space, xml
from served import Client, Served, attempt, scan, serving
from test_wire import huge

from noref.serve import Limits
from noref.serve.wire import MIB

PLAIN = xml(space((12, 8, 1), limits=(0, 7, 4)))
GOOD = lines(kspace(1, 8, 12))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    limits = Limits(memory=8 * MIB, connections=40, patience=2.0)
    with serving(limits=limits) as server:
        yield server


@pytest.fixture(autouse=True)
def _afterwards(served: Served) -> Iterator[None]:
    """However it was treated, it makes the image of a good scan."""
    yield
    answers = scan(served.server.port, PLAIN, GOOD)
    assert (len(answers.images), answers.texts, answers.closed) == (1, [], True)
    assert not served.events("failure"), served.events("failure")


def refused(served: Served, act: Callable[[Client], None]) -> str:
    """The error that a client gets, before the close."""
    answers = attempt(served.server.port, act)
    assert answers.closed
    (text,) = answers.texts
    assert text.startswith("ERR ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_random_bytes(served: Served, seed: int, begun: bool) -> None:
    def act(client: Client) -> None:
        if begun:
            client.begin(PLAIN)
            client.number(1008)
        client.socket.sendall(random.Random(seed).randbytes(5000))
        client.socket.shutdown(socket.SHUT_WR)

    assert attempt(served.server.port, act).closed


@pytest.mark.parametrize("number", [2, 3, 5, 1008])
def test_sizes_that_nobody_has(served: Served, number: int) -> None:
    assert "was announced" in refused(served, lambda client: client.socket.sendall(huge(number)))


def test_an_image_of_the_size_of_the_sea(served: Served) -> None:
    # It is skipped, which takes no memory and ends with the client's patience.
    assert "nothing came" in refused(served, lambda client: client.socket.sendall(huge(1022)))


@pytest.mark.parametrize("number", [0, 6, 1000, 65535])
def test_unknown_messages(served: Served, number: int) -> None:
    def act(client: Client) -> None:
        client.begin(PLAIN)
        client.readouts(GOOD)
        client.number(number)

    assert f"message {number} is unknown" in refused(served, act)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.77, 0.99])
def test_messages_that_break_off(served: Served, share: float) -> None:
    def act(client: Client) -> None:
        client.begin(PLAIN)
        sent: list[bytes] = []
        GOOD[0].serialize_into(lambda part: sent.append(bytes(part)))
        data = b"\xf0\x03" + b"".join(sent)
        client.socket.sendall(data[: int(share * len(data))])
        client.socket.shutdown(socket.SHUT_WR)

    assert "ended inside a message" in refused(served, act)


def test_scans_that_break_off(served: Served) -> None:
    def act(client: Client) -> None:
        client.begin(PLAIN)
        client.readouts(GOOD)
        client.socket.shutdown(socket.SHUT_WR)

    # A scan that was cut is no scan: no image of it.
    assert "ended without a close" in refused(served, act)


@pytest.mark.parametrize("after", ["configuration", "metadata", "data", "close"])
def test_clients_that_hang_up(served: Served, after: str) -> None:
    before = len(served.events("closed"))
    with Client(served.server.port) as client:
        client.configuration()
        if after != "configuration":
            client.metadata(PLAIN)
        if after in ("data", "close"):
            client.readouts(GOOD)
        if after == "close":
            client.close()
        # A reset, not an end.
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    served.until("closed", before + 1)


def test_silence(served: Served) -> None:
    began = time.monotonic()
    assert "nothing came for 2 s" in refused(served, lambda client: client.begin(PLAIN))
    assert 1.5 < time.monotonic() - began < 20


def test_slices_without_end(served: Served) -> None:
    big = readout(kspace(4, 2000))

    def act(client: Client) -> None:
        client.begin(PLAIN)
        # 64 kB each, and 8 MiB are allowed.
        for _ in range(300):
            try:
                client.readouts([big])
            except OSError:
                break

    assert "more than 8 MiB of read-outs wait" in refused(served, act)


def test_more_slices_than_memory_holds_wait_for_their_turn(served: Served) -> None:
    made = []
    values = kspace(1, 32, 1000)
    header = xml(space((1000, 32, 1), limits=(0, 31, 16)))
    for s in range(60):
        made += lines(values, slice=s)
        made[-1].setFlag(ismrmrd.ACQ_LAST_IN_SLICE)
    # 15 MB, of which half fits.
    with Client(served.server.port) as client, ThreadPoolExecutor(1) as taker:
        taken = taker.submit(client.answers)
        client.begin(header)
        client.readouts(made)
        client.close()
        answers = taken.result()
    assert (answers.texts, [image.slice for image in answers.images]) == ([], list(range(60)))


def test_a_matrix_beyond_all_bounds(served: Served) -> None:
    answers = scan(served.server.port, xml(space((16000, 16000, 1))), GOOD)
    assert "takes 1953 MiB, and at most 1 are allowed" in answers.texts[0]
    assert answers.closed


@pytest.mark.parametrize("text", ['{"parameters": {"images": "none"}}', '{"images": [1]}'])
def test_parameters_that_cannot_be(served: Served, text: str) -> None:
    def act(client: Client) -> None:
        client.begin(PLAIN)
        client.text(5, text)

    assert "are unknown; ask for magnitude or complex" in refused(served, act)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"parameters": 1}', "\0\0", '{"name": ""}'])
def test_parameters_that_are_none(served: Served, text: str) -> None:
    def act(client: Client) -> None:
        client.begin(PLAIN)
        client.text(5, text)
        client.readouts(GOOD)
        client.close()

    assert len(attempt(served.server.port, act).images) == 1


def test_metadata_that_unfold_without_end(served: Served) -> None:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><x>&a11;</x>'

    def act(client: Client) -> None:
        client.begin(bomb)
        client.readouts(GOOD)
        client.close()

    answers = attempt(served.server.port, act)
    assert (len(answers.images), answers.closed) == (1, True)


def test_lines_of_a_slice_that_is_done(served: Served) -> None:
    made = lines(kspace(1, 8, 12))
    made[-1].setFlag(ismrmrd.ACQ_LAST_IN_SLICE)
    answers = scan(served.server.port, PLAIN, [*made, *GOOD])
    assert (len(answers.images), answers.closed) == (1, True)
    assert "came after the image" in answers.texts[0]


def test_who_takes_no_images_is_given_up(served: Served) -> None:
    header = xml(space((1000, 100, 1), limits=(0, 99, 50)))
    made = lines(kspace(1, 100, 1000))
    made[-1].setFlag(ismrmrd.ACQ_LAST_IN_SLICE)
    before = len(served.events("lost"))
    with Client(served.server.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.begin(header)
        for s in range(200):
            for one in made:
                one.idx.slice = s
            try:
                client.readouts(made)
            except OSError:
                break
        else:
            pytest.fail("all was taken from who takes nothing")
        served.until("lost", before + 1)


def test_many_at_once(served: Served) -> None:
    port = served.server.port
    good: list[int] = []

    def nuisance(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(3):
            with Client(port) as client:
                try:
                    client.begin(PLAIN)
                    client.readouts(GOOD[: chance.randrange(8)])
                    client.socket.sendall(chance.randbytes(chance.randrange(3000)))
                except OSError:
                    continue

    def scanner() -> None:
        for _ in range(3):
            good.append(len(scan(port, PLAIN, GOOD).images))

    threads = [threading.Thread(target=nuisance, args=(n,)) for n in range(20)]
    threads += [threading.Thread(target=scanner) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert good == [1] * 9


def test_nothing_is_left_of_connections_that_ended(served: Served) -> None:
    before = threading.active_count()
    for _ in range(20):
        scan(served.server.port, PLAIN, GOOD)
        with Client(served.server.port) as client:
            client.socket.sendall(np.arange(99, dtype=np.uint8).tobytes())
    end = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.05)
