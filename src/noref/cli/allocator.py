"""What the process does with memory that it has freed."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_MIB = 2**20


def keep_freed_memory() -> None:
    """Has glibc keep freed memory instead of handing it back to the system.

    Every step frees its activations and asks for as much again in the next one. Left to itself glibc returns
    the pages in between, and the system clears them anew: up to a fifth of a training's time on CPUs. The
    peak of a process is the same; it only stays there. Elsewhere than under glibc nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    glibc = ctypes.CDLL(None)
    # Larger blocks than 32 MiB, the most that glibc lets one set, are mapped and returned as before.
    glibc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
    glibc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    glibc.mallopt(_TOP_PAD, 64 * _MIB)


def share_freed_memory() -> None:
    """Has threads to come share what others have freed.

    Else glibc gives every few threads a store of their own, and a server, whose connections are threads,
    keeps the peak of each. Elsewhere than under glibc nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
