"""Lists outputs of `bagpiper benchmark` beside published numbers: `bagpiper leaderboard OUTPUT …`, and the page's place
with `--gin.LeaderboardConfig.page=PAGE` (docs/evaluation.md)."""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.evaluation.results.leaderboard import LeaderboardConfig, write


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    named = tuple(flag for flag in argv if not flag.startswith("-"))
    rest = [flag for flag in argv if flag.startswith("-")]
    bindings = [f"--gin.LeaderboardConfig.outputs={named!r}"] if named else []
    print(
        write(configuration.load(LeaderboardConfig, [*bindings, *rest], __doc__, prog="bagpiper leaderboard"))
    )
