"""`noref unblind`: from filled sheets to scores of the methods."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from noref.acceptance import unblind as unblinded
from noref.files import check_writable, whole


def unblind(
    key: Annotated[Path, typer.Argument(help="readers-key.json, of `noref accept --readers`.")],
    sheets: Annotated[list[Path], typer.Argument(help="Filled sheets, one a reader.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The numbers, as JSON.")] = None,
    baseline: Annotated[str | None, typer.Option(help="What the others are compared with.")] = None,
) -> None:
    """Join readers' sheets with their key: mean scores, and paired differences."""
    if output is not None:
        check_writable(output)
    opinions = unblinded(key, sheets, baseline)
    for one in opinions:
        line = f"{one.column:<12}{one.method:<24}{one.mean:5.2f}  of {one.scores}"
        if one.difference is not None:
            p = "" if one.difference.p is None else f", p = {one.difference.p:.3f}"
            line += (
                f"  {one.difference.mean:+.2f} ({one.difference.low:+.2f} to {one.difference.high:+.2f}{p})"
            )
        print(line)
    if output is not None:
        text = json.dumps([asdict(one) for one in opinions], indent=1, ensure_ascii=False)
        with whole(output) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
