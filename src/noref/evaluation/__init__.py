"""How good a reconstruction is: scores, paired comparisons, and the report."""

from noref.evaluation.report import write_report
from noref.evaluation.results import MethodResult, Report, SubjectScore, extremes

__all__ = ["MethodResult", "Report", "SubjectScore", "extremes", "write_report"]
