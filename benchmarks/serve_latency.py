"""How long after its last read-out a slice's image is back: 15 coils, 320 × 320, read-outs 2× oversampled.

    python benchmarks/serve_latency.py --output benchmarks/results/serve-latency.json
    python benchmarks/serve_latency.py --model runs/mine wavelet

The server is a process of its own. From the last byte of the last read-out to the last byte of the image:
the slice is sorted, its maps are estimated, it is reconstructed and sent. `default` is the untrained network
of the recipe of that name, which takes as long as a trained one.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import h5py
import torch

from noref.api import load_config
from noref.config import build_method, build_network, save_config
from noref.data.simulate import prospective, simulate_data
from noref.formats import mrd_writing
from noref.physics import constant_along_readout, fft1c, ifft1c, pad_centre
from noref.scan import Header, Scan
from noref.serve.client import messages_of
from noref.serve.wire import MIB, Close, Readout, Text, Wire
from noref.training.checkpoint import save_tensors

COILS, MATRIX, ACCELERATION, ACS = 15, 320, 4, 24
UNTRAINED = "default"


def file_of(folder: Path, slices: int) -> Path:
    """Raw data of a head, accelerated four times."""
    scans = simulate_data(
        "brain", scans=1, slices=slices, coils=COILS, matrix=(MATRIX, MATRIX), noise_db=30, seed=1
    )
    path = folder / "scan.h5"
    mrd_writing.write(
        path,
        [
            oversampled(prospective(s, kind="lines", acceleration=ACCELERATION, acs=ACS, seed=1))
            for s in scans
        ],
    )
    return path


def oversampled(scan: Scan) -> Scan:
    """Read-outs twice as dense, as scanners take them."""
    assert constant_along_readout(scan.mask)
    ky, kx = scan.shape
    mask = scan.mask[:, :1].expand(ky, 2 * kx)
    kspace = torch.where(mask, fft1c(pad_centre(ifft1c(scan.kspace), (ky, 2 * kx))), 0)
    return Scan(scan.id, kspace, mask, mask, header=Header(crop=(ky, kx), spacing=(1.0, 1.0, 4.0)))


def untrained(folder: Path) -> Path:
    """A model folder whose network knows nothing."""
    config = load_config(UNTRAINED, ["data.target.path=none", "training.device=cpu"])
    network, method = build_network(config), build_method(config)
    method.meet(network)
    save_config(config, folder / "config.yaml")
    modules = {"network": network, "method": method}
    weights = {f"{name}.{k}": v for name, module in modules.items() for k, v in module.state_dict().items()}
    save_tensors(folder / "model.safetensors", weights, {})
    return folder


def latencies(model: str, settings: list[str], path: Path, folder: Path) -> list[float]:
    """Seconds from the last read-out of each slice to its image."""
    log = folder / "log.jsonl"
    command = [sys.executable, "-m", "noref.cli", "serve", model, *settings, "--port", "0"]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stderr=file)
    try:
        while "\n" not in log.read_text(encoding="utf-8"):
            time.sleep(0.1)
        port = int(json.loads(log.read_text(encoding="utf-8").splitlines()[0])["port"])
        wire = Wire(socket.create_connection(("127.0.0.1", port)), 600, 2048 * MIB, images=True)
        found = []
        with h5py.File(path) as raw:
            for message in messages_of(path, raw, None)[1]:
                wire.send(message)
                if isinstance(message, Readout) and int(message.head["flags"]) & (1 << 7):
                    began = time.perf_counter()
                    answer = wire.receive()
                    assert not isinstance(answer, Text | Close | None), str(answer)
                    found.append(time.perf_counter() - began)
        wire.end()
        return found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["zero-filled", "cg-sense", UNTRAINED])
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--settings", nargs="*", default=["oversampling=remove"])
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = file_of(folder, given.slices)
        for model in given.model:
            served = str(untrained(folder)) if model == UNTRAINED else model
            first, *later = latencies(served, given.settings, path, folder)
            rows[model] = {"first": first, "median": median(later), "worst": max(later)}
            print(f"{model}: " + ", ".join(f"{key} {value:.3f} s" for key, value in rows[model].items()))
    if given.output:
        told = {"coils": COILS, "matrix": MATRIX, "settings": given.settings, "torch": torch.__version__}
        given.output.write_text(json.dumps({**told, "seconds": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
