"""Tests whether one of two systems is better on the same items: `bagpiper compare FIRST SECOND`, two outputs of
`bagpiper benchmark` (docs/evaluation.md)."""

import dataclasses
import sys
from pathlib import Path

from bagpiper_jax import configuration
from bagpiper_jax.evaluation.results.comparison import compare, markdown


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """What is compared.

    Attributes:
        first, second: outputs of `bagpiper benchmark`; differences are second less first.
    """

    first: str
    second: str


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    named = [flag for flag in argv if not flag.startswith("-")]
    rest = [flag for flag in argv if flag.startswith("-")]
    bindings = [
        f"--gin.CompareConfig.{field}={value!r}"
        for field, value in zip(("first", "second"), named, strict=False)
    ]
    config = configuration.load(
        CompareConfig, [*bindings, *named[2:], *rest], __doc__, prog="bagpiper compare"
    )
    print(markdown(compare(Path(config.first), Path(config.second))))
