"""Where one pass of a row spends its time."""

from __future__ import annotations

from torch.autograd import DeviceType  # type: ignore[attr-defined] # public, but not listed
from torch.profiler import ProfilerActivity, profile

from .row import Row, Setting

SHOWN = 25
"""Operators of a profile."""


def profiled(row: Row, setting: Setting) -> list[tuple[str, int, float]]:
    """The operators of a pass of noref that take longest: name, calls, own milliseconds on the device."""
    work = row.sides[0].build(setting)
    work.run()
    on_gpu = setting.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        work.run()
    # Operators, not the kernels that they launch: those are in their times.
    averages = [event for event in profiler.key_averages() if event.device_type == DeviceType.CPU]
    times = {
        event.key: (event.count, event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in averages
    }
    longest = sorted(times.items(), key=lambda item: -item[1][1])[:SHOWN]
    return [(name, count, microseconds / 1e3) for name, (count, microseconds) in longest]
