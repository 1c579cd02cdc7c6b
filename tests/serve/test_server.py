"""Scans over a socket: what a scanner gets, and when."""

from __future__ import annotations

import fcntl
import json
import socket
import termios
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import numpy as np
import pytest
import torch
from mrd_files import CALIBRATION, NOISE, ismrmrd, kspace, lines, readout, space, xml
from served import Client, attempt, scan, serving
from torch import Tensor

from noref.cli.sources import source
from noref.errors import NorefError
from noref.formats.base import pseudonym
from noref.physics import fft2c, ifft2c
from noref.reconstruction import Reconstruction, chosen
from noref.scan import Scan
from noref.serve import Limits, Server

PLAIN = xml(space((12, 8, 1), view=(24.0, 16.0, 5.0), limits=(0, 7, 4)))
LAST_IN_SLICE = ismrmrd.ACQ_LAST_IN_SLICE
PLACE = {
    "position": (1.0, 2.0, 3.0),
    "read_dir": (0.0, 1.0, 0.0),
    "phase_dir": (0.0, 0.0, 1.0),
    "slice_dir": (1.0, 0.0, 0.0),
    "patient_table_position": (7.0, 8.0, 9.0),
    "acquisition_time_stamp": 12345,
    "physiology_time_stamp": (11, 12, 13),
    "measurement_uid": 77,
    "user_int": tuple(range(8)),
    "user_float": tuple(np.arange(8) / 2),
}


def slices(count: int, repetitions: int = 1, **head: object) -> list[ismrmrd.Acquisition]:
    made = []
    for r in range(repetitions):
        for s in range(count):
            made += lines(kspace(1, 8, 12, seed=10 * r + s), slice=s, repetition=r, **head)
            made[-1].setFlag(LAST_IN_SLICE)
    return made


def expected(slice_: int, repetition: int = 0) -> np.ndarray:
    return ifft2c(torch.from_numpy(kspace(1, 8, 12, seed=10 * repetition + slice_)))[0].numpy()


def by(act: Callable[[Scan], Tensor]) -> Reconstruction:
    """A reconstruction that does something before it is zero-filled."""
    plain = chosen("zero-filled")

    def image(of: Scan) -> Tensor:
        act(of)
        return plain.image(of)

    return Reconstruction(image, plain.base, "watched")


def test_images_say_where_and_when_they_were_measured() -> None:
    with serving() as served:
        answers = scan(served.server.port, PLAIN, slices(2, 2, **PLACE))
        assert (answers.texts, answers.closed) == ([], True)
        assert len(answers.images) == 4
        for number, image in enumerate(answers.images):
            r, s = divmod(number, 2)
            np.testing.assert_allclose(image.data[0, 0], expected(s, r), atol=1e-5)
            for name, value in PLACE.items():
                found = getattr(image, name)
                assert (tuple(found) if np.ndim(value) else found) == value, name
            assert (image.slice, image.repetition, image.image_index) == (s, r, number + 1)
            assert tuple(image.field_of_view) == (24, 16, 5)
            assert tuple(image.matrix_size) == (12, 8, 1)
            assert image.image_type == ismrmrd.IMTYPE_COMPLEX
            assert image.meta["ImageComment"] == "zero-filled"
            assert image.meta["DataRole"] == "Image"


def test_magnitudes_are_sent_unless_asked_otherwise() -> None:
    def act(client: Client) -> None:
        client.begin(PLAIN)
        client.text(5, json.dumps({"parameters": {"images": "complex", "other": {"a": 1}}}))
        client.readouts(slices(1))
        client.close()

    with serving(kind="magnitude") as served:
        (image,) = scan(served.server.port, PLAIN, slices(1)).images
        assert image.image_type == ismrmrd.IMTYPE_MAGNITUDE
        assert image.data.dtype == np.float32
        np.testing.assert_allclose(image.data[0, 0], abs(expected(0)), atol=1e-5)
        (image,) = attempt(served.server.port, act).images
        assert image.data.dtype == np.complex64


def test_every_slice_comes_before_the_next_is_measured() -> None:
    with serving() as served, Client(served.server.port) as client:
        client.begin(PLAIN)
        made = slices(3)
        for s in range(3):
            client.readouts(made[8 * s : 8 * s + 8])
            image = client.image()
            assert image.slice == s
            np.testing.assert_allclose(image.data[0, 0], expected(s), atol=1e-5)
        client.close()
        assert client.answers().closed


def test_a_scan_may_be_half_sent_while_others_come_and_go() -> None:
    with serving() as served, Client(served.server.port) as slow:
        slow.begin(PLAIN)
        slow.readouts(slices(1)[:5])
        for _ in range(3):
            assert len(scan(served.server.port, PLAIN, slices(2)).images) == 2
        slow.readouts(slices(1)[5:])
        slow.close()
        np.testing.assert_allclose(slow.answers().images[0].data[0, 0], expected(0), atol=1e-5)


def test_several_scans_at_once_do_not_mix() -> None:
    found: dict[int, np.ndarray] = {}

    def one(number: int) -> None:
        made = [line for s in range(4) for line in lines(kspace(1, 8, 12, seed=100 * number + s), slice=s)]
        found[number] = np.stack([image.data[0, 0] for image in scan(port, PLAIN, made).images])

    with serving() as served:
        port = served.server.port
        threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(6):
            values = np.stack([kspace(1, 8, 12, seed=100 * number + s)[0] for s in range(4)])
            np.testing.assert_allclose(found[number], ifft2c(torch.from_numpy(values)), atol=1e-5)
        assert {line["images"] for line in served.until("closed", 6)} == {4}


def test_noise_scans_whiten_where_that_is_asked_for() -> None:
    noise = kspace(2, 500, seed=9) * np.array([[1], [3]], np.complex64)
    seen: list[Scan] = []
    header = xml(space((32, 32, 1), limits=(0, 31, 16)))
    made = [readout(noise, NOISE), *lines(kspace(2, 32, 32))]
    for settings, power in (([], np.cov(noise)), (["whiten=true"], np.eye(2))):
        with serving(by(seen.append), "maps=acs", *settings) as served:
            assert len(scan(served.server.port, header, made).images) == 1
        cov = seen[-1].noise_cov
        assert cov is not None
        np.testing.assert_allclose(cov * abs(seen[-1].scale) ** 2, power, atol=0.2)


def test_calibration_scans_give_the_maps() -> None:
    seen: list[Scan] = []
    ky, kx = 32, 32
    y, x = np.mgrid[-1 : 1 : ky * 1j, -1 : 1 : kx * 1j]
    ball = (y**2 + x**2 < 0.7).astype(np.complex64)
    coils = np.stack([np.exp(-((y - 1) ** 2)), np.exp(-((y + 1) ** 2)), np.exp(-((x - 1) ** 2) + 1j * x)])
    full = torch.from_numpy((ball * coils).astype(np.complex64))
    k = fft2c(full).numpy()
    header = xml(space((kx, ky, 1), limits=(0, ky - 1, ky // 2), calibration="separate"))
    made = [*lines(k, CALIBRATION, rows=list(range(8, 24))), *lines(k, rows=list(range(0, ky, 2)))]
    with serving(by(seen.append)) as served:
        assert len(scan(served.server.port, header, made).images) == 1
    maps, norm = seen[0].maps, np.sqrt((abs(coils) ** 2).sum(0))
    assert maps is not None
    ratio = (abs(maps[0].numpy()) - abs(coils) / norm)[:, y**2 + x**2 < 0.5]
    assert abs(ratio).max() < 0.05


@pytest.mark.parametrize(
    "act",
    [
        lambda client: (client.configuration(), client.close()),
        lambda client: (client.begin(PLAIN), client.close()),
        lambda client: client.close(),
        lambda client: (client.text(2, "<configuration/>"), client.metadata(PLAIN), client.close()),
        lambda client: (client.begin(PLAIN), client.text(5, "hello, no JSON"), client.close()),
        lambda client: (client.begin(PLAIN), client.text(5, "[1]"), client.close()),
        lambda client: (client.begin("no XML at all"), client.close()),
        lambda client: (client.begin(b"\xff\xfe\0"), client.close()),
    ],
)
def test_without_data_there_is_a_close_and_nothing_else(act: Callable[[Client], object]) -> None:
    with serving() as served:
        answers = attempt(served.server.port, act)
        assert (answers.images, answers.texts, answers.closed) == ([], [], True)


@pytest.mark.parametrize("header", ["nonsense", "<a><b></a>", ""])
def test_metadata_that_are_no_xml_leave_what_the_data_say(header: str) -> None:
    with serving() as served:
        answers = scan(served.server.port, header, slices(1))
        np.testing.assert_allclose(answers.images[0].data[0, 0], expected(0), atol=1e-5)
        assert "no XML" in served.until("warning")[0]["text"]


def test_waveforms_are_skipped() -> None:
    def act(client: Client) -> None:
        client.begin(PLAIN)
        wave = ismrmrd.Waveform.from_array(np.arange(300, dtype=np.uint32).reshape(3, 100))
        for one in slices(1):
            client.readouts([one])
            client.waveform(wave)
        client.close()

    with serving() as served:
        np.testing.assert_allclose(
            attempt(served.server.port, act).images[0].data[0, 0], expected(0), atol=1e-5
        )


def test_one_bad_slice_leaves_the_others() -> None:
    made = slices(3)
    made[9].data[:] = np.nan
    with serving() as served:
        answers = scan(served.server.port, PLAIN, made)
        assert [image.slice for image in answers.images] == [0, 2]
        assert answers.closed
        (text,) = answers.texts
        assert text.startswith("ERR ")
        assert "scan/scan/001: k-space holds NaN" in text


def test_the_log_does_not_tell_who_the_patient_is() -> None:
    header = PLAIN.replace(
        "<encoding>", "<subjectInformation><patientID>P/7</patientID></subjectInformation><encoding>"
    )
    made = slices(1)
    made[0].data[:] = np.nan
    with serving() as served:
        (text,) = scan(served.server.port, header, made).texts
        assert f"{pseudonym('P/7')}/scan/000" in text
        assert "P_7" not in text
        served.until("closed")
        assert "P_7" not in served.file.getvalue()
        assert "P/7" not in served.file.getvalue()


def test_whatever_goes_wrong_in_a_reconstruction_the_server_lives() -> None:
    broken = [True]

    def act(_: Scan) -> Tensor:
        if broken.pop() if broken else False:
            raise RuntimeError("two lines\nof reasons")
        return torch.zeros(1)

    with serving(by(act)) as served:
        answers = scan(served.server.port, PLAIN, slices(2))
        assert answers.texts == ["ERR slice 0 could not be reconstructed (RuntimeError: two lines)"]
        assert [image.slice for image in answers.images] == [1]
        assert "two lines" in served.until("failure")[0]["traceback"]
        assert served.until("closed")[0]["errors"] == 1


def test_a_scanner_never_waits_for_a_reconstruction() -> None:
    go_on = threading.Event()

    def act(_: Scan) -> Tensor:
        assert go_on.wait(60)
        return torch.zeros(1)

    with serving(by(act)) as served, Client(served.server.port) as client:
        client.begin(PLAIN)
        client.readouts(slices(3))
        client.close()
        # All is taken while the first slice is still being made.
        end = time.monotonic() + 60
        while pending(client.socket):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert not served.events("image")
        go_on.set()
        assert len(client.answers().images) == 3


def pending(of: socket.socket) -> int:
    """Bytes that were sent and not yet taken by the other side's system."""
    return int.from_bytes(fcntl.ioctl(of, termios.TIOCOUTQ, b"\0" * 4), "little")


def test_health_is_told_over_http() -> None:
    with serving(health=0) as served:
        scan(served.server.port, PLAIN, slices(2))
        served.until("closed")
        url = f"http://127.0.0.1:{served.server.health_port}"
        with Client(served.server.port):
            served.until("opened", 2)
            with urllib.request.urlopen(f"{url}/healthz", timeout=10) as answer:
                told = json.load(answer)
        assert {
            key: told[key] for key in ("status", "model", "connections", "scans", "images", "errors")
        } == {
            "status": "ok",
            "model": "zero-filled",
            "connections": 1,
            "scans": 1,
            "images": 2,
            "errors": 0,
        }
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/other", timeout=10)


def test_a_port_in_use_is_one_line() -> None:
    plain = chosen("zero-filled")
    how = source([], [], plain.base)
    with (
        serving() as served,
        pytest.raises(NorefError, match=r"cannot listen there \(address already in use\)"),
    ):
        Server(plain, how, port=served.server.port)


def test_stopping_lets_scans_end() -> None:
    started, go_on = threading.Event(), threading.Event()

    def act(_: Scan) -> Tensor:
        started.set()
        assert go_on.wait(60)
        return torch.zeros(1)

    with serving(by(act)) as served, Client(served.server.port) as client:
        client.begin(PLAIN)
        client.readouts(slices(1))
        client.close()
        assert started.wait(60)
        served.server.stop()
        served.until("stopping")
        go_on.set()
        answers = client.answers()
        assert (len(answers.images), answers.closed) == (1, True)
        served.until("stopped")
        with pytest.raises(ConnectionRefusedError):
            Client(served.server.port)


def test_only_so_many_scans_at_once() -> None:
    with (
        serving(limits=Limits(connections=2)) as served,
        Client(served.server.port) as one,
        Client(served.server.port) as two,
    ):
        served.until("opened", 2)
        answers = attempt(served.server.port, lambda client: client.begin(PLAIN))
        assert answers.closed
        (text,) = answers.texts
        assert text.startswith("ERR 2 scans are being reconstructed")
        one.close()
        assert one.answers().closed
        served.until("closed")
        assert len(scan(served.server.port, PLAIN, slices(1)).images) == 1
        two.close()
