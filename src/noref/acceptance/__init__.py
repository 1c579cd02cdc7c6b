"""Acceptance of a trained model on a site's own scans, without a reference."""

from noref.acceptance.accept import Judged, accept, judged
from noref.acceptance.unblind import Opinion, unblind
from noref.acceptance.verdict import Acceptance, Criterion, Thresholds, Verdict

__all__ = [
    "Acceptance",
    "Criterion",
    "Judged",
    "Opinion",
    "Thresholds",
    "Verdict",
    "accept",
    "judged",
    "unblind",
]
