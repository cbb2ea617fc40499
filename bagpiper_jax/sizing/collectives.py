"""What the chips of a compiled step send each other, read from its HLO.

XLA's own cost analysis counts a loop's body once; here every instruction counts as often as its loop turns.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8}
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (\(.*?\)|\S+) ([\w\-]+)\(")
_ARRAY = re.compile(r"\b(pred|[subf]+\d+\w*)\[([\d,]*)\]")
_CALLED = re.compile(
    r"\b(?:calls|body|true_computation|false_computation|branch_computations)=\{?([%\w.\-, ]+)"
)
_APPLIED = re.compile(r"\bto_apply=(%[\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that one chip sends per step.

    Attributes:
        ici: kind of collective → bytes within a slice.
        dcn: kind of collective → bytes, of those that reach other slices.
        count: kind of collective → how often one runs.
        synchronous: kind of collective → bytes, of those within a slice that are sent while nothing is computed.
    """

    ici: dict[str, float]
    dcn: dict[str, float]
    count: dict[str, int]
    synchronous: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    shape: str
    opcode: str
    line: str


def traffic(hlo: str, slice_of: Sequence[int], one_turn: bool = False) -> Traffic:
    """Adds up all collectives of a compiled module.

    Args:
        hlo: text of the optimised module.
        slice_of: the slice of every device, in the order of the mesh.
        one_turn: of a program that is a loop, such as the steps of an engine, counts one turn, and of branches nothing:
            what every turn sends.
    """
    computations, entry = _parse(hlo)
    ici, dcn, count, synchronous = (collections.Counter() for _ in range(4))
    for kind, instruction, times, beside in _collectives(computations, entry, once=entry if one_turn else ""):
        if instruction.opcode == "send":
            dcn[kind] += times * _sent_between(kind, _shape_bytes(instruction), len(set(slice_of)))
            count[kind] += times
            continue
        size, crosses = _group(instruction.line, tuple(slice_of))
        sent = times * _sent(kind, _shape_bytes(instruction), size)
        if kind == "reduce-scatter" and instruction.opcode.startswith("all-reduce"):
            sent /= size  # its result is whole still, the slice comes after it
        (dcn if crosses else ici)[kind] += sent
        if not beside and not crosses:
            synchronous[kind] += sent
        count[kind] += times
    return Traffic(dict(ici), dict(dcn), dict(count), dict(synchronous))


def _parse(hlo: str) -> tuple[dict[str, list[_Instruction]], str]:
    computations, current, entry = {}, [], ""
    for line in hlo.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif found := _INSTRUCTION.match(line):
            current.append(_Instruction(found[1], found[2], line))
    return computations, entry


def _collectives(
    computations, name: str, times: int = 1, scatters=False, once: str = "", beside=False
) -> Iterator[tuple]:
    """(kind, instruction, times it runs, whether it runs beside computation) of a computation and all that it calls.

    Args:
        once: the computation whose loops are counted as one turn, while no branch is; "" where all are counted.
        beside: whether all of this computation runs beside others.
    """
    begins = any(_BEGINS in instruction.line for instruction in computations[name])
    for instruction in computations[name]:
        kind = _kind(instruction)
        # A collective that runs beside computation is written once more in every fusion that carries it on, also in the
        # fusions of a loop that runs meanwhile. It is counted only where it begins.
        if kind in KINDS and (begins or _CARRIED_ON not in instruction.line):
            hidden = beside or begins or instruction.opcode != kind
            yield (
                ("reduce-scatter" if scatters and kind == "all-reduce" else kind),
                instruction,
                times,
                hidden,
            )
        if once and instruction.opcode == "conditional":
            continue
        loops = instruction.opcode == "while" and name != once
        turns = _turns(computations, instruction) if loops else 1
        for called in _called(instruction):
            # TPUs scatter what they reduce by a fusion of an all-reduce and a slice.
            fused = called.startswith("all-reduce-scatter")
            hidden = beside or instruction.opcode.endswith("-start")
            yield from _collectives(computations, called, times * turns, fused, once, hidden)


_BEGINS, _CARRIED_ON = 'custom_call_target="AsyncCollectiveStart"', "chain_id="


def _kind(instruction: _Instruction) -> str:
    """The collective that an instruction begins, or its opcode."""
    # Between slices TPUs hand what they exchange to their hosts, whose runtime carries it over the network.
    if between := re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.line):
        kind = between[1].lower().replace("_", "-") if instruction.opcode == "send" else ""
        return "collective-permute" if kind == "one-to-one" else kind
    return instruction.opcode.removesuffix("-start")


def _called(instruction: _Instruction) -> Iterator[str]:
    if instruction.opcode.endswith(("-done", "-update")):
        return  # names again what its start has called
    if instruction.opcode in ("call", "call-start"):
        yield from (name.lstrip("%") for name in _APPLIED.findall(instruction.line))
    for names in _CALLED.findall(instruction.line):
        yield from (name.strip().lstrip("%") for name in names.split(",") if name.strip().startswith("%"))


def _turns(computations, loop: _Instruction) -> int:
    if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.line):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", loop.line)
    tests = computations[condition[1]] if condition else []
    limits = [re.search(r"constant\((\d+)\)", i.line) for i in tests if i.opcode == "constant"]
    return max((int(limit[1]) for limit in limits if limit), default=1)


def _shape_bytes(instruction: _Instruction) -> int:
    """Bytes of the result; of an asynchronous start, without the operands that it carries along."""
    sizes = [
        math.prod(map(int, filter(None, dims.split(",")))) * _BYTES.get(dtype, 4)
        for dtype, dims in _ARRAY.findall(re.sub(r"\{[^{}]*\}", "", instruction.shape))
    ]
    if instruction.opcode == "all-gather-start":
        sizes = sizes[len(sizes) // 2 :]
    if instruction.opcode in ("collective-permute-start", "send"):
        sizes = sizes[:1]
    return sum(sizes)


def _sent(kind: str, size: int, group: int) -> float:
    """Bytes that a chip sends in a ring of `group` chips, by the bytes of the result."""
    others = group - 1
    return {
        "all-gather": size * others / group,
        "reduce-scatter": size * others,
        "all-reduce": 2 * size * others / group,
        "all-to-all": size * others / group,
        "collective-permute": float(size),
    }[kind]


def _sent_between(kind: str, size: int, slices: int) -> float:
    """Bytes that a chip's host sends for it, by the bytes that the chip hands over."""
    others = slices - 1
    return (
        size
        * {
            "all-gather": others,
            "reduce-scatter": others / slices,
            "all-reduce": 2 * others / slices,
            "all-to-all": others / slices,
            "collective-permute": 1.0,
        }[kind]
    )


def _group(line: str, slice_of: tuple[int, ...]) -> tuple[int, bool]:
    """(chips that take part together, whether they lie in several slices)."""
    if pairs := re.search(r"source_target_pairs=\{(\{.*?\})\}", line):
        groups = _lists(pairs[1])
        return 2, any(slice_of[a] != slice_of[b] for a, b in groups)
    attribute = re.search(r"replica_groups=(\S+(?: \{'[^}]*\})?)", line)
    groups = _groups(attribute[1].rstrip(","), len(slice_of)) if attribute else [list(range(len(slice_of)))]
    return len(groups[0]), any(len({slice_of[d] for d in group}) > 1 for group in groups)


@functools.lru_cache(maxsize=256)
def _groups(text: str, devices: int) -> list:
    if text.startswith("{{"):
        return _lists(text)
    if form := re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        shape, dims = ([int(x) for x in form[i].split(",")] for i in (1, 2))
        order = [int(x) for x in form[3].split(",")] if form[3] else list(range(len(dims)))
        return np.arange(devices).reshape(dims).transpose(order).reshape(shape).tolist()
    if form := re.match(r"mesh\[(.*?)\] ?\{(.*)\}", text):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", form[1])}
        chosen = [name in re.findall(r"'(\w+)'", form[2]) for name in sizes]
        order = np.argsort(chosen, kind="stable").tolist()
        members = math.prod(size for size, is_in in zip(sizes.values(), chosen, strict=True) if is_in)
        return np.arange(devices).reshape(list(sizes.values())).transpose(order).reshape(-1, members).tolist()
    return [list(range(devices))]


def _lists(text: str) -> list[list[int]]:
    return [[int(x) for x in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", text)]
