"""What is said and shown of a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import scan, undersampled

from noref.data.dataset import Dataset
from noref.data.overview import THUMBNAIL, contact_sheet, summary
from noref.data.prepare import Preparation
from noref.data.store import open_store
from noref.data.storing import write_store
from noref.scan import Role, Scan


def stored(folder: Path, scans: list[Scan], **settings: object) -> Path:
    how = Preparation.model_validate(settings)
    dataset = Dataset(scans, how, Role.TARGET)
    write_store(folder, map(dataset.prepared, range(len(dataset))), how, Role.TARGET)
    return folder


def slices(volume: str, count: int, shape: tuple[int, int], coils: int, seed: int) -> list[Scan]:
    made = [undersampled(scan(shape, coils, seed + i, noise=0.01), "lines", 2, 8, i) for i in range(count)]
    return [replace(one, id=f"{volume}/{volume}/{i:03d}") for i, one in enumerate(made)]


def test_alike_slices_share_a_line(tmp_path: Path) -> None:
    scans = [
        *slices("a", 3, (32, 24), 2, 0),
        *slices("b", 2, (32, 24), 2, 5),
        *slices("c", 1, (40, 24), 4, 9),
    ]
    head, first, second, done, noise = summary(open_store(str(stored(tmp_path / "s", scans)))).splitlines()
    assert head.split() == ["matrix", "coils", "sets", "volumes", "slices", "full", "R", "held", "out"]
    assert first.split()[:7] == ["32×24", "2", "1", "2", "5", "0", "2.0"]
    assert second.split()[:7] == ["40×24", "4", "1", "1", "1", "0", "2.0"]
    assert first.split()[-1] == second.split()[-1] == "%"
    assert 0 < float(second.split()[-2]) < 10
    assert done == "targets; coil maps by espirit, not whitened"
    assert noise == "noise: border of k-space in 3 of 3 volumes looked at"


def test_what_was_recognised_is_said(tmp_path: Path) -> None:
    covariance = torch.eye(2, dtype=torch.complex64)
    told, border = (slices(name, 1, (64, 48), 2, seed)[0] for name, seed in (("told", 0), ("border", 5)))
    padding, late = torch.zeros_like(border.mask), torch.ones_like(border.mask)
    padding[:6] = True
    late[:, :12] = False
    border = replace(border.undersampled(~padding), padding=padding)
    scans = [replace(told.undersampled(late), noise_cov=covariance), border]
    store = open_store(str(stored(tmp_path / "s", scans, whiten=True, maps="acs")))
    *_, done, noise, found = summary(store).splitlines()
    assert done == "targets; coil maps by acs, whitened"
    assert noise == "noise: noise scans in 1, border of k-space in 1 of 2 volumes looked at"
    assert found == "recognised: partial echo in 1, padding in 1 of 2 volumes looked at"
    assert {one.header.whitened_by for one in store} == {"noise scans", "border of k-space"}


def test_full_scans_beside_accelerated_ones_are_said(tmp_path: Path) -> None:
    full = replace(scan((32, 24), 2, 3), id="full/full/000")
    store = open_store(str(stored(tmp_path / "a", [full, *slices("b", 2, (32, 24), 2, 5)])))
    assert "nothing is held out of 1 full slices, which have a reference" in summary(store)
    assert [one.holdout is None for one in store] == [True, False, False]
    assert [one.reference is None for one in store] == [False, True, True]
    masked = stored(
        tmp_path / "b", [full, *slices("b", 2, (32, 24), 2, 5)], mask="lines", acceleration=2, acs=8
    )
    store = open_store(str(masked))
    assert "mask=lines is of the full slices; 2 were accelerated and stay as they are" in summary(store)
    assert all(one.holdout is not None for one in store)
    assert not bool(store[0].mask.all())


def test_what_is_not_raw_is_told(tmp_path: Path) -> None:
    measured = slices("a", 3, (32, 24), 2, 0)
    made = [replace(one, raw=False) for one in slices("b", 2, (32, 24), 2, 5)]
    for name, scans, said in (
        ("both", [*measured, *made], "2 of 5 slices not raw, made from images or simulated"),
        ("made", made, "not raw, made from images or simulated"),
    ):
        assert said in summary(open_store(str(stored(tmp_path / name, scans)))).splitlines()
    assert "not raw" not in summary(open_store(str(stored(tmp_path / "measured", measured))))
    # Of so many subjects as are asked for.
    assert "not raw" not in summary(open_store(str(tmp_path / "both"), subjects=1))


@pytest.mark.parametrize(("volumes", "size"), [(1, (1, 1)), (3, (2, 2)), (5, (3, 2))])
def test_every_volume_has_a_picture(tmp_path: Path, volumes: int, size: tuple[int, int]) -> None:
    scans = [one for v in range(volumes) for one in slices(f"v{v}", 3, (32, 24), 2, 10 * v)]
    store = open_store(str(stored(tmp_path / "s", scans, maps="acs")))
    contact_sheet(store)
    sheet = np.asarray(Image.open(tmp_path / "s" / "contact.png"))
    assert sheet.shape == (size[1] * THUMBNAIL, size[0] * THUMBNAIL)
    shown = [
        sheet[row * THUMBNAIL : (row + 1) * THUMBNAIL, column * THUMBNAIL : (column + 1) * THUMBNAIL]
        for row in range(size[1])
        for column in range(size[0])
    ]
    for number, picture in enumerate(shown):
        assert (picture.max() > 0) == (number < volumes)
    # An object in air, not filled up beyond its matrix.
    assert torch.from_numpy(shown[0].copy()).float()[: (THUMBNAIL - 32) // 2].sum() == 0
