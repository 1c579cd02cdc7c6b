"""Bad input gets one line that names the file, exit code 2, and nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from command import TINY, done, noref, refused, tree
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from noref import NorefError
from noref.training.checkpoint import VERSION

Damage = Callable[[Path], object]


def changed(**datasets: Callable[[np.ndarray], np.ndarray] | np.ndarray) -> Damage:
    """Puts data sets in the place of those of a good file."""

    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            for name, new in datasets.items():
                values = new(file[name][()]) if callable(new) else new
                if name in file:
                    del file[name]
                file[name] = values

    return damage


def with_nan(kspace: np.ndarray) -> np.ndarray:
    kspace[1, 2, 24, 24] = np.nan
    return kspace


BAD: list[tuple[str, Damage, str]] = [
    ("missing", lambda path: path.unlink(), "not found; check the path"),
    ("empty", lambda path: path.write_bytes(b""), "is empty; copy or export it again"),
    ("no HDF5", lambda path: path.write_text("k-space, in prose"), "of no known format; noref reads"),
    ("truncated", lambda path: path.write_bytes(path.read_bytes()[:20000]), "damaged or incomplete"),
    ("NaN", changed(kspace=with_nan), "slice 1: k-space holds NaN or infinity"),
    ("zeros", changed(kspace=np.zeros_like), "slice 0: k-space is all zeros"),
    ("mask", changed(mask=np.ones(47, np.uint8)), "mask (47,) fits no axis of kspace"),
    (
        "maps",
        changed(maps=np.ones((2, 1, 4, 40, 48), np.complex64)),
        "maps (2, 1, 4, 40, 48) do not fit kspace",
    ),
]


@pytest.fixture
def scan(undersampled: Path, tmp_path: Path) -> Path:
    """A good file to damage."""
    (tmp_path / "in").mkdir()
    return Path(shutil.copy(undersampled / "brain-0001.h5", tmp_path / "in" / "scan.h5"))


@pytest.mark.parametrize(("damage", "complaint"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_every_command_names_the_bad_file(
    scan: Path, run: Path, tmp_path: Path, damage: Damage, complaint: str
) -> None:
    damage(scan)
    out = tmp_path / "out"
    for command in (
        ["train", "default", f"data.target.path={scan}", f"output={out}", *TINY],
        ["reconstruct", run, scan, "-o", out / "image.nii.gz"],
        ["reconstruct", "cg-sense", scan, "-o", out],
        ["evaluate", run, f"path={scan}", "-o", out / "report.html"],
    ):
        told = refused(*command)
        assert told.startswith(f"noref: {scan}: ")
        assert complaint in told
    assert tree(tmp_path) == (["in"] if complaint.startswith("not found") else ["in", "in/scan.h5"])
    if not complaint.startswith("slice 1"):  # the middle one is described
        assert complaint.replace("slice 0", "slice") in refused("inspect", scan).replace("slice 1", "slice")


def test_tracebacks_come_with_debug_only(scan: Path, run: Path, tmp_path: Path) -> None:
    scan.write_bytes(b"")
    command = ["reconstruct", run, scan, "-o", tmp_path / "image.npy"]
    refused(*command)
    for debugged in (["--debug", *command], [*command, "--debug"]):
        with pytest.raises(NorefError, match="is empty"):
            noref(*debugged)


def test_skipping_bad_files_has_to_be_asked_for(undersampled: Path, scan: Path, tmp_path: Path) -> None:
    shutil.copy(undersampled / "brain-0002.h5", scan.parent)
    changed(kspace=with_nan)(scan)
    train = ["train", "ssdu", f"data.target.path={scan.parent}", f"output={tmp_path / 'run'}", *TINY]
    refused(*train)
    told = done(*train, "data.target.skip_bad=true")
    assert f"noref: warning: left out 1 of 2 files: {scan}: slice 1: k-space holds NaN" in told.err
    assert "- target: 2 slices" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_a_retrospective_mask_must_fit(full: Path, run: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.npy"
    np.save(mask, np.ones(47))
    for command in (
        [
            "train",
            "ssdu",
            f"data.target.path={full}",
            f"data.target.mask={mask}",
            f"output={tmp_path / 'out'}",
        ],
        ["reconstruct", run, full, f"mask={mask}", "-o", tmp_path / "out"],
        ["evaluate", run, f"path={full}", f"mask={mask}", "-o", tmp_path / "report.html"],
    ):
        told = refused(*command)
        assert told == (
            f"noref: {mask}: a mask of (47,) fits no axis of k-space (48, 48); give (ky, kx) or (ky,)"
        )
    assert tree(tmp_path) == ["mask.npy"]


def test_undersampled_scans_cannot_be_undersampled_again(undersampled: Path, tmp_path: Path) -> None:
    target = [f"data.target.path={undersampled}", "data.target.mask=lines"]
    told = refused("train", "ssdu", *target, f"output={tmp_path / 'out'}", *TINY)
    assert "brain-0001/000: already undersampled (R = 2.0)" in told
    assert tree(tmp_path) == []


def test_too_little_calibration_names_the_ways_out(run: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    size = ["--scans", "1", "--slices", "1", "--coils", "2", "--matrix", "48"]
    done("simulate", scans, *size, "--acceleration", "2", "--acs", "4")
    train = ["train", "ssdu", f"data.target.path={scans}", f"output={out}", *TINY]
    for command in (
        train,
        ["reconstruct", run, scans, "-o", out],
        ["reconstruct", "wavelet", scans, "-o", out],
        ["evaluate", run, f"path={scans}", "-o", out / "report.html"],
    ):
        told = refused(*command)
        assert told.startswith(
            "noref: brain-0001/brain-0001/000: ESPIRiT needs 12 fully sampled central lines"
        )
        assert "take maps from the low-resolution images (maps=acs)" in told
    assert tree(tmp_path) == ["scans", "scans/brain-0001.h5"]
    done(*train, "data.target.maps=acs")


def test_one_mask_for_all_scans(full: Path, tmp_path: Path) -> None:
    """Refused for a single coil, where nothing tells what is never sampled; a warning where coils do."""
    lines = np.zeros(48)
    lines[::3] = 1
    lines[18:30] = 1
    np.save(tmp_path / "mask.npy", lines)
    single = tmp_path / "single"
    done("simulate", single, "--scans", "2", "--slices", "1", "--coils", "1", "--matrix", "48")

    def train(data: Path, name: str) -> list[str]:
        target = [f"data.target.path={data}", f"data.target.mask={tmp_path / 'mask.npy'}"]
        return ["train", "ssdu", *target, f"output={tmp_path / name}", *TINY]

    told = refused(*train(single, "refused"))
    assert told == (
        "noref: data.target: all 2 scans of 1 coil(s) share one mask (R = 2.0): no network can learn what is "
        "never sampled; use different masks, proxies (recipe jssl), or data.force=true"
    )
    assert not (tmp_path / "refused").exists()

    for command, complaint in (
        (
            [*train(single, "forced"), "data.force=true"],
            "all 2 scans of 1 coil(s) share one mask (R = 2.0): nothing",
        ),
        (train(full, "coils"), "all 6 scans of 4 coil(s) share one mask (R = 2.0): only the coils tell"),
    ):
        warned = [line for line in done(*command).err.splitlines() if line.startswith("noref: warning: ")]
        assert len(warned) == 1
        assert complaint in warned[0]


def test_a_partition_that_leaves_nothing_to_grade(undersampled: Path, tmp_path: Path) -> None:
    train = ["train", "ssdu", f"data.target.path={undersampled}", f"output={tmp_path / 'out'}", *TINY]
    told = refused(*train, "method.partition.centre=1")
    assert "0 lie outside the protected centre, so there is nothing to grade the network on" in told
    assert tree(tmp_path) == []
    done(*train)


def test_supervised_training_needs_references(undersampled: Path, tmp_path: Path) -> None:
    told = refused(
        "train", "supervised", f"data.target.path={undersampled}", f"output={tmp_path / 'out'}", *TINY
    )
    assert "supervised training needs fully sampled scans" in told
    assert tree(tmp_path) == []


def test_joint_training_needs_both_kinds(undersampled: Path, tmp_path: Path) -> None:
    told = refused("train", "jssl", f"data.target.path={undersampled}", f"output={tmp_path / 'out'}", *TINY)
    assert told == "noref: method joint: needs two kinds of scans; give data.proxy.path=FOLDER"
    assert tree(tmp_path) == []


def test_there_must_be_something_to_train_on(tmp_path: Path) -> None:
    assert "give data.target.path=FOLDER" in refused("train", "ssdu", f"output={tmp_path / 'out'}")
    assert "no scans there" in refused(
        "train", "ssdu", f"data.target.path={tmp_path}", f"output={tmp_path / 'out'}"
    )
    assert tree(tmp_path) == []


def test_weights_of_another_network_are_refused(run: Path, undersampled: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    weights = load_file(other / "model" / "model.safetensors")
    last = next(name for name in weights if name.startswith("network.inner.phases.1"))
    save_file({n: t for n, t in weights.items() if n != last}, other / "model" / "model.safetensors")
    out = tmp_path / "out"
    for command in (
        ["reconstruct", other, undersampled, "-o", out],
        ["evaluate", other, f"path={undersampled}", "-o", out / "report.html"],
    ):
        told = refused(*command)
        assert told.startswith(f"noref: {other / 'model' / 'model.safetensors'}: holds another network: ")
    (other / "model" / "model.safetensors").write_bytes(b"half")
    assert "model.safetensors: damaged" in refused("reconstruct", other, undersampled, "-o", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("network", "holds another network: "),
        ("version", f"written by a newer noref (format 99, not {VERSION}); update noref"),
        ("truncated", "damaged or not a checkpoint"),
        ("foreign", "not a checkpoint of noref"),
    ],
)
def test_checkpoints_that_cannot_be_gone_on_from(
    run: Path, tmp_path: Path, damage: str, complaint: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    file = other / "checkpoint.safetensors"
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    if damage == "network":
        save_file(
            {n: t for n, t in tensors.items() if not n.startswith("network.inner.phases.1")}, file, metadata
        )
    elif damage == "version":
        save_file(tensors, file, {**metadata, "version": "99"})
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        save_file(tensors, file)
    before = {name: (other / name).read_bytes() for name in tree(other) if (other / name).is_file()}
    told = refused("train", other, "--resume")
    assert told.startswith(f"noref: {file}: ")
    assert complaint in told
    assert before == {name: (other / name).read_bytes() for name in tree(other) if (other / name).is_file()}


def test_an_output_folder_with_other_files_is_left_alone(undersampled: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    train = ["train", "ssdu", f"data.target.path={undersampled}", *TINY]
    for resume in ([], ["--resume"]):
        told = refused(*train, f"output={tmp_path}", *resume)
        assert told == f"noref: {tmp_path}: holds other files; give another output="
    told = refused(*train, f"output={tmp_path / 'notes.txt'}")
    assert told == f"noref: {tmp_path / 'notes.txt'}: holds other files; give another output="
    assert "already holds files" in refused("simulate", tmp_path)
    assert tree(tmp_path) == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["train", "sdu"], "sdu: no such recipe; did you mean 'ssdu'?"),
        (["train", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["train", "ssdu", "training.epoch=3"], "training.epoch is unknown; did you mean 'epochs'?"),
        (["train", "ssdu", "trainin.epochs=3"], "trainin is unknown; did you mean 'training'?"),
        (
            ["train", "ssdu", "data.target.path=x", "data.target.accelaration=3"],
            "data.target.accelaration is unknown; did you mean 'acceleration'?",
        ),
        (["train", "ssdu", "training.epochs=many"], "training.epochs: input should be a valid integer"),
        (["train", "ssdu", "--epochs=3"], "No such option: --epochs"),
        (["train", "ssdu", "epochs"], "'epochs': not of the form key=value"),
        (["train", "ssdu", "--resum"], "No such option: --resum"),
        (["train"], "Missing argument"),
        (["trian", "ssdu"], "No such command 'trian'"),
        (["simulate", "there", "--matrix", "big"], "Invalid value for '--matrix'"),
        (
            ["reconstruct", "wavelett", "x.h5", "-o", "x.npy"],
            "wavelett: neither a folder nor one of zero-filled",
        ),
        (["evaluate", "path=nowhere"], "nowhere: not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_misspelt_commands_are_told_apart(
    command: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(*command)
    assert tree(tmp_path) == []


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("network.feature=8", "network.feature: unknown; did you mean 'features'?"),
        ("network.name=istanett", "network.name: 'istanett' is unknown; did you mean 'istanet'?"),
        ("network.phases=few", "network.phases: 'few' is not possible"),
        ("method.name=spilt", "method.name: 'spilt' is unknown; did you mean 'split'?"),
        ("method.partition.weigth=uniform", "method.partition.weigth: unknown; did you mean 'weight'?"),
        ("loss.kspace={l3: 1}", "unknown loss 'l3'; there are l1, l2, nmse, mse"),
        ("loss.penalti=0", "loss.penalti is unknown; did you mean 'penalty'?"),
    ],
)
def test_misspelt_settings_are_told_the_nearest(
    setting: str, complaint: str, undersampled: Path, tmp_path: Path
) -> None:
    train = ["train", "ssdu", f"data.target.path={undersampled}", f"output={tmp_path / 'out'}"]
    assert complaint in refused(*train, setting)
    assert tree(tmp_path) == []
