from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

CHURN = """
import resource, sys, torch
if sys.argv[1] == "keep":
    from noref.cli.allocator import keep_freed_memory
    keep_freed_memory()
torch.set_num_threads(1)
for _ in range(3):
    activations = [torch.zeros(6 * 2**20) for _ in range(10)]
    del activations
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    activations = [torch.zeros(6 * 2**20) for _ in range(10)]
    del activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_is_taken_again_without_the_system() -> None:
    def faults(how: str) -> int:
        # The allocator of a fresh process, without what the environment may already tell it.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        command = [sys.executable, "-c", CHURN, how]
        return int(subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout)

    kept = faults("keep")
    # Now and then something that stays lies at the end of the heap: nothing behind it can be returned.
    assert any(faults("leave") > 10 * max(kept, 1) for _ in range(5))
