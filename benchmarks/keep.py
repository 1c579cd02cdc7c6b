"""Keeping the numbers of small experiments, which several processes may make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noref.experiments.kept import alone
from noref.files import whole


def keep(file: Path, name: str, found: Mapping[str, Any]) -> None:
    """Puts an entry into a JSON file, one process at a time, in the place of what it had by that name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with alone(file.parent):
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        with whole(file) as temporary:
            made = json.dumps({**before, name: dict(found)}, indent=1, ensure_ascii=False)
            temporary.write_text(f"{made}\n", encoding="utf-8")
