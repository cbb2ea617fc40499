"""A plan as a table to read."""

from collections.abc import Iterator, Sequence
from typing import Any


def table(result: dict[str, Any]) -> str:
    """Lines of name and value; docs/plan.md says what each means."""
    parts = (_devices, _memory, _flops, _traffic, _speed, _mixture)
    return aligned([row for part in parts for row in part(result)])


def aligned(rows: Sequence[tuple[str, str]]) -> str:
    """Lines of name and value."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def verdict(plan: dict[str, Any]) -> str:
    """Whether a plan fits its chips."""
    limit = plan["hbm_limit_gib_per_chip"] or 0
    return {
        True: f"fits {limit:.2f}",
        False: f"DOES NOT FIT {limit:.2f}",
        None: f"may fit {limit:.2f}" if limit else "limit unknown",
    }[plan["fits"]]


def search_table(tried: list[dict[str, Any]]) -> str:
    """One line per candidate of a search, the best that fits marked."""
    lines = [f"{'candidate':<52} {'GiB/chip':>8} {'step s':>8} {'MFU':>6}"]
    for plan in tried:
        total = plan["hbm_gib_per_chip"]["total"]
        seconds = plan.get("roofline_seconds", {}).get("step")
        speed = f"{seconds:8.3f} {plan['mfu_bound']:6.1%}" if seconds else f"{'-':>8} {'-':>6}"
        state = "  does not fit" if plan["fits"] is False else ""
        lines.append(f"{plan['candidate']:<52} {total:8.2f} {speed}{state}")
    return "\n".join(lines)


def _devices(plan) -> Iterator[tuple[str, str]]:
    mesh = " ".join(f"{axis} {size}" for axis, size in plan["mesh"].items() if size > 1) or "one device"
    yield "devices", f"{plan['chips']} x {plan['device_kind']}, {mesh}"
    yield "slots per step", f"{plan['slots_per_step']:,}"


def _memory(plan) -> Iterator[tuple[str, str]]:
    used = plan["hbm_gib_per_chip"]
    parts = ", ".join(f"{name} {used[name]:.2f}" for name in ("parameters", "optimizer", "temporaries"))
    yield f"GiB per chip, {plan['memory_is']}", f"{used['total']:.2f} ({parts}): {verdict(plan)}"
    for number, knob in enumerate(plan["advice"], 1):
        yield f"  to make it fit, {number}", knob
    yield "checkpoint", f"{plan['checkpoint_gib']:.1f} GiB"


def _flops(plan) -> Iterator[tuple[str, str]]:
    flops = plan["flops_per_step"]
    yield (
        "PFLOP per step",
        f"{flops['full'] / 1e15:,.3f} full, {flops['causal'] / 1e15:,.3f} causal attention",
    )
    decoder = (
        f"decoder {flops['decoder_full'] / 1e15:,.3f} full, {flops['decoder_causal'] / 1e15:,.3f} causal"
    )
    yield "  parts", f"{decoder}; tower {flops['tower'] / 1e15:,.3f}; head {flops['head'] / 1e15:,.3f}"
    yield "  with recomputation", f"{flops['executed'] / 1e15:,.3f}"


def _traffic(plan) -> Iterator[tuple[str, str]]:
    for link, kinds in plan.get("collective_gib_per_chip", {}).items():
        for kind, size in sorted(kinds.items()):
            yield f"GiB sent per chip, {link}, {kind}", f"{size:.3f}"
    if "synchronous_gib_per_chip" in plan:
        waited = sum(plan["synchronous_gib_per_chip"].values())
        yield "  of these, nothing is computed meanwhile", f"{waited:.3f}"
    if "compiler_flags" in plan:
        flags = " ".join(plan["compiler_flags"]) or "none"
        yield f"flags of the compiler, libtpu {plan['libtpu']}", flags


def _speed(plan) -> Iterator[tuple[str, str]]:
    if "roofline_seconds" not in plan:
        return
    seconds, run = plan["roofline_seconds"], plan["run"]
    parts = ", ".join(f"{name} {seconds[name]:.3f}" for name in ("compute", "waiting", "hbm", "ici", "dcn"))
    yield "seconds per step, at least", f"{seconds['step']:.3f}, bound by {seconds['bound_by']} ({parts})"
    full = plan["mfu_bound_full"]
    yield "MFU, at most", f"{plan['mfu_bound']:.1%} causal" + (f", {full:.1%} full" if full else "")
    rate, each = plan["tokens_per_second"], plan["tokens_per_second_per_chip"]
    yield "tokens per second, at most", f"{rate:,.0f}, {each:,.0f} per chip"
    budget = f"{run['steps']:,} steps, {run['tokens'] / 1e9:,.1f}B tokens"
    yield "run, at least", f"{budget}: {run['days']:.1f} days, {run['chip_hours']:,.0f} chip-hours"


def _mixture(plan) -> Iterator[tuple[str, str]]:
    mixture = plan.get("mixture")
    if not mixture:
        return
    verdict = {True: "valid", False: "VIOLATED", None: "not cached yet; run cache_tasks"}
    yield "mixture", f"{mixture['lock']}: {verdict[mixture['valid']]}"
    for task, share in mixture["shares"].items():
        yield f"  {task}", f"{share:.1%}"
    for violation in mixture["violations"]:
        yield "  violation", violation
