"""A plan of generation as a table to read."""

from collections.abc import Iterator
from typing import Any

from bagpiper_jax.sizing.table import aligned, verdict


def generation_table(result: dict[str, Any]) -> str:
    """Lines of name and value; docs/plan.md says what each means."""
    return aligned([row for part in (_devices, _memory, _requests, _speed) for row in part(result)])


def _devices(plan) -> Iterator[tuple[str, str]]:
    mesh = " ".join(f"{axis} {size}" for axis, size in plan["mesh"].items() if size > 1) or "one device"
    yield "devices", f"{plan['chips']} x {plan['device_kind']}, {mesh}"
    asked = plan["request"]
    parts = f"prompt {asked['prompt']}, text {asked['text']}, audio {asked['audio']}"
    yield "slots of a request", f"{asked['slots']:,} ({parts}{', guided' if asked['guided'] else ''})"
    yield "weights", plan["weights"]


def _memory(plan) -> Iterator[tuple[str, str]]:
    used = plan["hbm_gib_per_chip"]
    parts = ", ".join(f"{name} {used[name]:.2f}" for name in ("weights", "heads", "cache", "temporaries"))
    yield f"GiB per chip, {plan['memory_is']}", f"{used['total']:.2f} ({parts}): {verdict(plan)}"
    if plan["page_layout"] > 1.01:
        yield (
            "  layout of a page",
            f"{plan['page_layout']:.2f} times the bytes that EngineConfig.memory counts",
        )
    for number, knob in enumerate(plan["advice"], 1):
        yield f"  to make it fit, {number}", knob


def _requests(plan) -> Iterator[tuple[str, str]]:
    found = plan["requests"]
    yield (
        "requests at once",
        f"{found['at_once']:,} ({found['in_memory']:,} in memory, {found['rows']:,} rows)",
    )


def _speed(plan) -> Iterator[tuple[str, str]]:
    if "roofline_seconds" not in plan:
        return
    seconds, rows, first = plan["roofline_seconds"], plan["rows_per_second"], plan["first_audio_seconds"]
    if plan["memory_is"] == "estimated":
        yield "bounds", "from bytes and FLOPs alone: no compiler for these chips is at hand"
    parts = ", ".join(f"{name} {1e3 * seconds[name]:.2f}" for name in ("compute", "hbm", "ici", "dcn"))
    yield (
        "milliseconds per step, at least",
        f"{1e3 * seconds['step']:.2f}, bound by {seconds['bound_by']} ({parts})",
    )
    yield (
        "rows per second, at most",
        f"{rows['together']:,.0f} of all requests, {rows['alone']:,.0f} of one alone",
    )
    yield (
        "seconds to first audio, at least",
        f"{first['together']:.3f} beside all others, {first['alone']:.3f} alone (prompt {plan['prefill_seconds']:.3f})",
    )
    cost = plan["usd_per_hour_of_audio"]
    if cost is not None:
        yield (
            "US dollars per hour of audio, at least",
            f"{cost:.3f} at {plan['price_per_chip_hour']:.2f} per chip-hour",
        )
