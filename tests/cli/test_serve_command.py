"""`noref serve` as a process, `noref send` to it: the images are those of `noref reconstruct`."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import torch
from command import done, refused, tree

from noref import formats
from noref.cli.sources import source
from noref.data.prepare import Preparation, undersample
from noref.formats import mrd_writing
from noref.physics import fft2c, ifft2c, pad_centre
from noref.reconstruction import chosen
from noref.scan import Header
from noref.serve import Server
from noref.serve.log import Log

PLACED = Header(
    crop=(48, 48),
    spacing=(2.0, 3.0, 5.0),
    position=(10.0, -20.0, 30.0),
    directions=((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0)),
    protocol="T2",
)
TOOL = "ismrmrd_generate_cartesian_shepp_logan"


@dataclass
class Process:
    """A server."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    @property
    def port(self) -> str:
        return str(self.lines[0]["port"])

    @property
    def memory(self) -> int:
        """Resident, MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) // 1024


@contextmanager
def server(folder: Path, *arguments: str | Path) -> Iterator[Process]:
    log = folder / f"log-{random.randrange(10**9)}.jsonl"
    with log.open("w") as file:
        command = [sys.executable, "-m", "noref.cli", "serve", *map(str, arguments), "--port", "0"]
        process = subprocess.Popen(command, stderr=file, stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 120
        while "\n" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield Process(process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.communicate()[0] == ""
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, undersampled: Path) -> Path:
    """Three subjects of two slices, the second one twice, with noise scans, placed in the scanner."""
    folder = tmp_path_factory.mktemp("streams")
    for path in sorted(undersampled.glob("*.h5")):
        read = [
            replace(
                scan,
                noise_cov=1e-6 * torch.diag(torch.arange(1.0, 5)) + 0j,
                header=replace(PLACED, position=(10.0 - 5 * number, -20.0, 30.0)),
            )
            for number, scan in enumerate(formats.read(path))
        ]
        again = [replace(scan, id=scan.id.replace(f"/{path.stem}/", "/again/")) for scan in read]
        mrd_writing.write(folder / path.name, read + again * (path.stem.endswith("2")))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Iterator[Process]:
    with server(tmp_path_factory.mktemp("served"), run) as process:
        yield process


def test_the_images_are_those_of_reconstruct(
    trained: Process, run: Path, scans: Path, tmp_path: Path
) -> None:
    for path in sorted(scans.iterdir()):
        done("reconstruct", run, path, "-o", tmp_path / "theirs.npy")
        done("send", path, "--port", trained.port, "-o", tmp_path / "mine.npy")
        mine, theirs = np.load(tmp_path / "mine.npy"), np.load(tmp_path / "theirs.npy")
        assert mine.shape == theirs.shape
        assert len(mine) == (4 if path.stem.endswith("2") else 2)
        np.testing.assert_allclose(mine, theirs, atol=1e-5 * abs(theirs).max())


def test_another_format_is_not_sent(trained: Process, tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", np.ones((2, 8, 8), np.complex64))
    told = refused("send", tmp_path / "scan.npy", "--port", trained.port, "-o", tmp_path / "mine.npy")
    assert "scan.npy: is no HDF5; what is streamed is ISMRMRD (MRD 1) HDF5" in told


@pytest.mark.parametrize("suffix", [".nii.gz", ".h5", ".dcm", ".png", ".cfl", ".mrd"])
def test_they_are_written_as_reconstruct_writes_them(
    trained: Process, run: Path, scans: Path, tmp_path: Path, suffix: str
) -> None:
    path = min(scans.iterdir())
    for name, command in (("a", ["reconstruct", run, path]), ("b", ["send", path, "--port", trained.port])):
        done(*command, "-o", tmp_path / f"{name}{suffix}")
    mine, theirs = tmp_path / f"b{suffix}", tmp_path / f"a{suffix}"
    if suffix == ".nii.gz":
        one, other = nibabel.load(mine), nibabel.load(theirs)
        np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)
        np.testing.assert_allclose(one.get_fdata(), other.get_fdata(), atol=1e-5 * other.get_fdata().max())
        assert one.header["descrip"] == other.header["descrip"]
    elif suffix == ".mrd":
        with h5py.File(mine) as one, h5py.File(theirs) as other:
            for name in ("position", "read_dir", "phase_dir", "slice_dir", "slice", "field_of_view"):
                mine_, theirs_ = (f["dataset/image_0/header"][name] for f in (one, other))
                np.testing.assert_allclose(mine_, theirs_, atol=1e-4)
            values = [f["dataset/image_0/data"][()].view(np.complex64) for f in (one, other)]
            np.testing.assert_allclose(*values, atol=1e-5 * abs(values[1]).max())
    else:
        written = [name.replace("b.", "a.") for name in tree(tmp_path) if name.startswith("b")]
        assert written == [name for name in tree(tmp_path) if name.startswith("a")]


@pytest.mark.skipif(shutil.which(TOOL) is None, reason="ismrmrd-tools are not installed")
@pytest.mark.parametrize(
    ("method", "options", "settings"),
    [
        ("zero-filled", "-r 3 -C", ["whiten=true"]),
        ("zero-filled", "-a 2 -w 16 -r 2", ["oversampling=remove"]),
        ("grappa", "-a 2 -w 20", ["oversampling=remove"]),
        ("cg-sense", "-a 2 -w 16 -C", ["whiten=true", "coils=2"]),
    ],
)
def test_files_of_the_formats_own_generator(
    tmp_path: Path, method: str, options: str, settings: Sequence[str]
) -> None:
    command = [TOOL, "-o", "a.h5", "-m", "48", "-c", "3", *options.split()]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    done("reconstruct", method, tmp_path / "a.h5", *settings, "-o", tmp_path / "theirs.npy")
    with server(tmp_path, method, *settings) as process:
        done("send", tmp_path / "a.h5", "--port", process.port, "-o", tmp_path / "mine.npy")
    theirs = np.load(tmp_path / "theirs.npy")
    np.testing.assert_allclose(np.load(tmp_path / "mine.npy"), theirs, atol=1e-5 * abs(theirs).max())


def test_partial_echoes_are_cut_as_in_a_file(scans: Path, tmp_path: Path) -> None:
    made = []
    for scan in formats.read(min(scans.iterdir())):
        wide = scan.mask[:, :1] & (torch.arange(96) >= 20)
        kspace = torch.where(wide, fft2c(pad_centre(ifft2c(scan.kspace), (48, 96))), 0)
        made.append(replace(scan, kspace=kspace, measured=wide, mask=wide, header=PLACED))
    mrd_writing.write(tmp_path / "echo.h5", made)
    how = ("oversampling=remove", "whiten=true")
    done("reconstruct", "zero-filled", tmp_path / "echo.h5", *how, "-o", tmp_path / "theirs.npy")
    with server(tmp_path, "zero-filled", *how) as process:
        done("send", tmp_path / "echo.h5", "--port", process.port, "-o", tmp_path / "mine.npy")
    theirs = np.load(tmp_path / "theirs.npy")
    assert theirs.shape[1:] == (48, 48)
    np.testing.assert_allclose(np.load(tmp_path / "mine.npy"), theirs, atol=1e-5 * abs(theirs).max())


@pytest.mark.real_data
def test_a_real_head_streamed_line_by_line(real_data: Path, tmp_path: Path) -> None:
    (path,) = (real_data / "multicoil").glob("mchiew_brain_16ch_full_96*")
    (full,) = formats.read(path, axes="kx,ky,-,coils")
    how = Preparation.model_validate({"mask": "lines", "acceleration": 2, "acs": 24})
    scan = undersample(full, how)
    with server(tmp_path, "zero-filled") as process:
        for number, one in enumerate((scan.undersampled(scan.mask), full)):
            one = replace(one, id=f"head/{number}/000", measured=one.mask, reference=None)
            mrd_writing.write(tmp_path / "head.h5", [one])
            done("reconstruct", "zero-filled", tmp_path / "head.h5", "-o", tmp_path / "theirs.npy")
            done("send", tmp_path / "head.h5", "--port", process.port, "-o", tmp_path / "mine.npy")
            theirs = np.load(tmp_path / "theirs.npy")
            np.testing.assert_allclose(np.load(tmp_path / "mine.npy"), theirs, atol=1e-5 * abs(theirs).max())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_stays_whatever_comes(tmp_path: Path, scans: Path) -> None:
    def nuisance(seed: int) -> None:
        chance = random.Random(seed)
        with socket.create_connection(("127.0.0.1", int(process.port)), timeout=30) as peer:
            head = bytearray(342)
            head[:2] = (1008).to_bytes(2, "little")
            # 65535 samples of 8 channels, 4 MiB, announced and half sent.
            head[2 + 34 : 2 + 36], head[2 + 38 : 2 + 40] = b"\xff\xff", b"\x08\0"
            try:
                for _ in range(chance.randrange(1, 20)):
                    peer.sendall(bytes(head) + bytes(8 * 8 * 65535))
                peer.sendall(bytes(head) + chance.randbytes(2 * 2**20))
            except OSError:
                return

    path = min(scans.iterdir())
    with server(tmp_path, "zero-filled", "--memory", "40") as process:
        for seed in range(5):
            nuisance(seed)
        done("send", path, "--port", process.port, "-o", tmp_path / "a.npy")
        before = process.memory
        for seed in range(60):
            nuisance(seed)
        done("send", path, "--port", process.port, "-o", tmp_path / "b.npy")
        assert process.memory < before + 60
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    ends = [line["text"] for line in process.lines if line["event"] == "error"]
    assert len(ends) == 65


def test_the_log_is_lines_of_json(trained: Process, scans: Path, tmp_path: Path) -> None:
    before = len(trained.lines)
    done("send", min(scans.iterdir()), "--port", trained.port, "-o", tmp_path / "a.mrd")
    end = time.monotonic() + 30
    while trained.lines[-1]["event"] != "closed":
        assert time.monotonic() < end
        time.sleep(0.05)
    told = trained.lines[before:]
    assert [line["event"] for line in told] == [
        "opened",
        "configuration",
        "metadata",
        "image",
        "image",
        "closed",
    ]
    assert len({line["connection"] for line in told}) == 1
    assert (told[-1]["images"], told[-1]["errors"]) == (2, 0)
    assert trained.lines[0]["event"] == "listening"
    assert trained.lines[0]["model"].startswith("network istanet trained by")


def test_the_open_recon_label() -> None:
    told = json.loads(done("serve", "zero-filled", "--open-recon-label").out)
    assert told["reconstruction"]["port"] == 9002
    assert told["reconstruction"]["content_qualification_type"] == "RESEARCH"
    assert (told["reconstruction"]["emitter"], told["reconstruction"]["injector"]) == ("raw", "image")
    assert told["general"]["id"].isalnum()
    assert "not tried on a scanner" in told["general"]["information"]["en"]
    assert [len(told["parameters"]), told["parameters"][0]["id"]] == [1, "config"]


def test_bad_servers_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    for arguments, line in (
        (["wavelets"], "wavelets: neither a folder nor one of"),
        ([tmp_path], "no model there"),
        (["wavelet", tmp_path / "x"], "is no setting"),
        (["wavelet", "path=x"], "path: is about files"),
        (["wavelet", "axes=coils,ky,kx"], "axes: is about files"),
        (["wavelet", "mask=lines"], "leave it out"),
        (["wavelet", "whitening=true"], "whitening is unknown"),
        (["wavelet", "--images", "phase"], "'phase' is not one of"),
        (["wavelet", "--host", "300.1.1.1"], "cannot listen there"),
    ):
        assert line in refused("serve", *arguments)


def test_bad_files_and_servers_are_one_line_and_leave_nothing(scans: Path, tmp_path: Path) -> None:
    path, target = min(scans.iterdir()), tmp_path / "x.npy"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    assert "no server there (connection refused); start noref serve" in refused(
        "send", path, "--port", port, "-o", target
    )
    assert "is an input" in refused("send", path, "-o", path)
    assert "noref writes images as" in refused("send", path, "-o", tmp_path / "x.tiff")
    short = tmp_path / "short.h5"
    short.write_bytes(path.read_bytes()[:-5000])
    assert "damaged or incomplete" in refused("send", short, "-o", target)
    two = tmp_path / "two.h5"
    shutil.copy(path, two)
    with h5py.File(two, "a") as file:
        file.copy(file["dataset"], file, "other")
    assert "holds 2 measurements, dataset, other; name one with --group" in refused("send", two, "-o", target)
    assert "no measurement third" in refused("send", two, "--group", "third", "-o", target)
    plain = chosen("zero-filled")
    with (tmp_path / "log").open("w") as log:
        one = Server(plain, source([], [], plain.base), port=0, log=Log(log))
        broken = tmp_path / "broken.h5"
        scan = formats.read(path)[0]
        mrd_writing.write(
            broken, [scan, replace(scan, id=f"{scan.subject}/b/000", kspace=scan.kspace * 1e38)]
        )
        with serving(one):
            line = refused("send", broken, "--port", str(one.port), "-o", target)
    assert f"{broken}: refused by 127.0.0.1:{one.port}: " in line
    assert not target.exists()


def test_a_measurement_is_sent_with_the_noise_of_its_neighbour(scans: Path, tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    shutil.copy(min(scans.iterdir()), path)
    with h5py.File(path, "a") as file:
        data, xml = file["dataset/data"][()], file["dataset/xml"][()]
        noise = (data["head"]["flags"] & np.uint64(1 << 18)) != 0
        kind = file["dataset/data"].dtype
        del file["dataset/data"]
        file["dataset"].create_dataset("data", data=data[~noise], dtype=kind)
        file.create_group("noise").create_dataset("data", data=data[noise], dtype=kind)
        file["noise/xml"] = xml
    done("reconstruct", "zero-filled", path, "whiten=true", "-o", tmp_path / "theirs.npy")
    with server(tmp_path, "zero-filled", "whiten=true") as process:
        done("send", path, "--port", process.port, "-o", tmp_path / "mine.npy")
    theirs = np.load(tmp_path / "theirs.npy")
    np.testing.assert_allclose(np.load(tmp_path / "mine.npy"), theirs, atol=1e-5 * abs(theirs).max())


@contextmanager
def serving(one: Server) -> Iterator[None]:
    """Runs a server in a thread."""
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        yield
    finally:
        one.stop()
        thread.join(30)
