"""The operations that take longest in a profile of `jax.profiler`."""

import collections
from pathlib import Path

import jax


def device_costs(directory: str, count: int = 5) -> list[dict]:
    """Names and seconds of the costliest operations of a trace, those of accelerators if there are any."""
    (file,) = Path(directory).rglob("*.xplane.pb")
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    seconds = collections.Counter()
    for plane in devices or [plane for plane in planes if "CPU" in plane.name]:
        for line in plane.lines:
            # A device's other lines name the same time again, by step, module and scope.
            if devices and not line.name.startswith(("XLA Ops", "Stream")):
                continue
            for event in line.events:
                if event.name.startswith("$"):  # Python's own frames
                    continue
                seconds[event.name.split(" = ")[0]] += event.duration_ns / 1e9
    return [{"name": name[:80], "seconds": round(time, 4)} for name, time in seconds.most_common(count)]
