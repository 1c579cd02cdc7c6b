"""Errors that are the user's to mend: one line that says where, what is wrong and what to do."""

from __future__ import annotations


class NorefError(Exception):
    """Bad input. The command line prints it as one line and exits with code 2."""
