"""`lowfield`: raw scans of a 0.055 T scanner, of which no good reference exists."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, median

import numpy as np
import scipy
import torch
from torch import Tensor

from noref.data.dataset import Dataset
from noref.data.simulate import OBJECT
from noref.errors import NorefError
from noref.evaluation.score import Reconstruction, Reconstructor
from noref.experiments import siat
from noref.experiments.experiment import STAGES, Condition, Experiment, Row
from noref.experiments.simulated import SEED, write_scan
from noref.formats import fastmri
from noref.formats.base import scan_id
from noref.physics.fourier import fft2c, ifft2c
from noref.scan import Scan

PATIENTS = {"patient1": "Figure_6A", "patient2": "Figure_7A", "patient3": "Supplementary_Figure_6A"}
SEQUENCES = ("GRE", "FSE", "FLAIR")
AVERAGES = Path("Supplementary_Figure_3A") / "0.055T_FLAIR_RF_cage_installed_2D_kspace.mat"

ROWS = {
    "ssdu": Row("ssdu"),
    # The border of k-space, filtered, tells down to an eleventh of the noise.
    "robust": Row("robust", ("method.sigma=air",)),
    "default": Row("default"),
    "idr": Row("idr", STAGES),
    "supervised": Row("supervised"),
    "supervised-proxy": Row("supervised-proxy", proxy="heads", target=False),
    "jssl": Row("jssl", proxy="heads"),
    "jssl-default": Row("jssl-default", proxy="heads"),
}
CORE = ("ssdu", "robust", "default", "jssl-default")
"""Three seeds."""


def write(data: Path, output: Path, matrix: int) -> None:
    """Writes the patients, the two averages, and the proxies, `heads`, whose noise is that of the patients.

    The patients' matrices are the scanner's own; `matrix` is the proxies'.
    """
    folder = data / "brain_lowfield"
    levels = []
    for patient, figure in PATIENTS.items():
        for sequence in SEQUENCES:
            kspace = _read(folder / figure / f"0.055T_{sequence}_kspace_postEMI.mat", "kspace")
            for index, plane in enumerate(kspace.permute(2, 0, 1)):
                scan = _write(output / patient, f"{patient}-{sequence}-{index}", patient, plane)
                if patient != "patient3":
                    levels.append(_noise_db(scan))
    for average, kspace in enumerate(_read(folder / AVERAGES, "ksp").permute(3, 2, 0, 1), 1):
        for index, plane in enumerate(kspace):
            _write(output / "averages", f"average{average}-{index}", f"average{average}", plane)
    for number in (1, 2, 3, 4):
        for index, image in enumerate(siat.slices(data, number)):
            name, subject, level = f"siat{number}-{index:02d}", f"siat{number}", median(levels)
            write_scan(
                output / "heads", name, image, matrix, subject=subject, noise_db=level, coils=1, clean=False
            )


def _read(path: Path, key: str) -> Tensor:
    try:
        return torch.from_numpy(scipy.io.loadmat(path)[key]).to(torch.complex64)
    except (OSError, KeyError, ValueError) as error:
        raise NorefError(
            f"{path}: no k-space there ({str(error).splitlines()[0]}); give --data the folder that holds the "
            "scans of the standing experiments"
        ) from None


def _write(folder: Path, name: str, subject: str, kspace: Tensor) -> Scan:
    everywhere = torch.ones(kspace.shape, dtype=torch.bool)
    scan = Scan(
        id=scan_id(subject, name, 0), kspace=kspace[None].contiguous(), measured=everywhere, mask=everywhere
    )
    fastmri.write(folder / f"{name}.h5", [scan])
    return scan


def air_level(scan: Scan) -> float:
    """σ of complex noise per sample, `σ² = median |x|² / ln 2` in the air in the corners of the image.

    The scans were filtered along the read-out, so that the border of their k-space holds less noise than the
    rest: what it shows is too little, down to an eleventh.
    """
    image = ifft2c(scan.kspace)[0]
    rows, columns = (size // 8 for size in scan.shape)
    ends = torch.cat([image[:rows], image[-rows:]])
    corners = torch.cat([ends[:, :columns], ends[:, -columns:]], -1)
    return math.sqrt(float(corners.abs().square().median()) / math.log(2))


def _noise_db(scan: Scan) -> float:
    """20·log10 of the image's rms over the object over σ, noise power subtracted."""
    level = air_level(scan)
    image = ifft2c(scan.kspace)[0].abs()
    power = float(image[image > OBJECT * image.max()].square().mean())
    if power <= level**2:
        raise NorefError(f"{scan.id}: no more than noise; this is not the scan that the experiment is about")
    return 10 * math.log10(power / level**2 - 1)


def whole_denoised(scan: Scan) -> Reconstruction:
    """The full scan, denoised by non-local means (Buades et al., CVPR 2005): what fewer samples compete with.

    Raises:
        NorefError: without scikit-image.
    """
    try:
        from skimage.restoration import denoise_nl_means
    except ModuleNotFoundError:
        raise NorefError('lowfield: needs scikit-image; pip install "noref[experiments]"') from None
    image = ifft2c(scan.kspace)[0]
    level = air_level(scan) / math.sqrt(2)
    pairs = torch.view_as_real(image).numpy()
    made = denoise_nl_means(
        pairs, patch_size=5, patch_distance=8, h=0.8 * level, sigma=level, channel_axis=-1
    )
    made = np.ascontiguousarray(made, dtype=np.float32)
    return Reconstruction(torch.view_as_complex(torch.from_numpy(made))[None], None, 0.0)


def unacquired_error(scan: Scan, image: Tensor) -> float:
    """`(Σ|F x − y|² − Nσ²) / (Σ|y|² − Nσ²)` over the N samples outside Ω: what the scan knows and x does not.

    Args:
        scan: full, single-coil, undersampled by its mask.
        image: complex `(sets, y, x)`.
    """
    outside = scan.measured & ~scan.mask
    noise = int(outside.sum()) * air_level(scan) ** 2
    values = scan.kspace[0][outside]
    error = (fft2c(image[0])[outside] - values).abs().square().sum()
    return float((error - noise) / (values.abs().square().sum() - noise))


def repeated_error(image: Tensor, again: Scan) -> float:
    """`(‖z − g x‖² − Nσ²) / (‖z‖² − Nσ²)`: x against another average z of the same slice, one complex gain g.

    Args:
        image: complex `(sets, y, x)`, of one average.
        again: the other one, full.
    """
    other = ifft2c(again.kspace)[0]
    gain = (image[0].conj() * other).sum() / image[0].abs().square().sum()
    noise = other.numel() * air_level(again) ** 2
    error = (other - gain * image[0]).abs().square().sum()
    return float((error - noise) / (other.abs().square().sum() - noise))


UNACQUIRED, REPEATED = "NMSE, not acquired", "NMSE, repeated"


def further(name: str, made: Reconstructor, test: Dataset, averages: Dataset) -> dict[str, float]:
    """The errors that need no clean reference, of a row's reconstructor: means over scans."""
    half = len(averages) // 2
    pairs = [(i, i + half) for i in range(half)] + [(i + half, i) for i in range(half)]
    errors = [repeated_error(made(averages.scan(one)).image, averages.scan(other)) for one, other in pairs]
    # The full scan, denoised, has seen what others are asked for.
    outside = [] if name == DENOISED else [unacquired_error(scan, made(scan).image) for scan in test]
    return {REPEATED: fmean(errors)} | ({UNACQUIRED: fmean(outside)} if outside else {})


DENOISED = "all of it, denoised"


def condition(rate: int) -> Condition:
    """A table: of one acceleration. Γ of the training scans chooses the weights."""
    return Condition(
        train=("patient1", "patient2"),
        validation=(),
        test=("patient3",),
        sampling={"mask": "lines", "acceleration": rate, "acs": 12, "seed": SEED},
        seeds={row: 3 if row in CORE else 1 for row in ROWS},
    )


EXPERIMENT = Experiment(
    name="lowfield",
    intro="Heads at 0.055 T, single coil, raw but for the removal of interference, with their thermal noise. "
    "Two patients train, and choose the weights by Γ (rows without targets keep their last ones); the third "
    "is the test. The full scans are noisy: PSNR and SSIM against them reward noise, so what counts are the "
    "errors of samples that were not acquired, and against another average.",
    rows=ROWS,
    conditions={f"{rate}x": condition(rate) for rate in (2, 3)},
    classical=("zero-filled", "tv", "wavelet"),
    write=write,
    anchors=None,
    others={DENOISED: whole_denoised},
    measures={
        UNACQUIRED: "of the samples outside Ω, noise power subtracted",
        REPEATED: "against another average of the slice, noise power subtracted",
    },
    further=further,
    repeats="averages",
)
