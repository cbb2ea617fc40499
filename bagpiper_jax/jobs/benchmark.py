"""Runs benchmarks on a system, and writes every table: official scores and honest ones (docs/evaluation.md).

bagpiper benchmark mmau=data/mmau --checkpoint=RUN --output=FOLDER         a run of ours
bagpiper benchmark mmau=data/mmau --url=http://host:8000/v1 --model=NAME --output=FOLDER
                                                                           an OpenAI-style endpoint
bagpiper benchmark mmau=data/mmau --recorded=REPLIES --output=FOLDER       replies that were made before
bagpiper benchmark --gin_file=gin/runs/benchmark.gin                       all of it in a file
"""

import argparse
import logging
import shlex
import sys

from bagpiper_jax import configuration, parallel
from bagpiper_jax.evaluation.results.report import PAGE
from bagpiper_jax.evaluation.running.config import BenchmarkConfig
from bagpiper_jax.evaluation.running.job import run
from bagpiper_jax.evaluation.systems.config import CaptionedSystem, CheckpointSystem

_PROG = "bagpiper benchmark"
_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    config = configuration.load(BenchmarkConfig, _bindings(argv), __doc__, prog=_PROG)
    if _computes(config):
        parallel.require_devices()
    results = run(config, command=shlex.join([*_PROG.split(), *argv]))
    if results:
        _log.info("wrote %s/%s", config.output, PAGE)
    else:
        _log.info("shard %d of %d has all its replies", config.shard, config.num_shards)


def _computes(config: BenchmarkConfig) -> bool:
    system = config.system.captions if isinstance(config.system, CaptionedSystem) else config.system
    return isinstance(system, CheckpointSystem)


def _bindings(argv: list[str]) -> list[str]:
    """The short flags as gin bindings, before all others."""
    parser = argparse.ArgumentParser(prog=_PROG, add_help=False, allow_abbrev=False)
    parser.add_argument(
        "benchmarks", nargs="*", help="NAME=PLACE of a benchmark and of its files; repeatable"
    )
    system = parser.add_mutually_exclusive_group()
    system.add_argument("--checkpoint", help="the system is a run of ours, or one of its steps")
    system.add_argument("--url", help="the system is an OpenAI-style endpoint")
    system.add_argument("--recorded", help="the system is a file or an output with replies")
    parser.add_argument("--model", help="the endpoint's name of its model")
    parser.add_argument("--output", help="the directory of replies and tables")
    parser.add_argument("--limit", type=int, help="at most so many items of each benchmark")
    flags, rest = parser.parse_known_args(argv)
    if strangers := [name for name in flags.benchmarks if "=" not in name]:
        parser.error(f"{strangers[0]}: a benchmark is named with the place of its files: mmau=data/mmau")
    if flags.model and not flags.url:
        parser.error("--model needs --url")
    bindings = {}
    if flags.benchmarks:
        bindings["BenchmarkConfig.benchmarks"] = dict(pair.split("=", 1) for pair in flags.benchmarks)
    if flags.output:
        bindings["BenchmarkConfig.output"] = flags.output
    if flags.limit is not None:
        bindings["BenchmarkConfig.limit"] = flags.limit
    found = [f"--gin.{name}={value!r}" for name, value in bindings.items()]
    return [*found, *_system(flags), *rest]


def _system(flags: argparse.Namespace) -> list[str]:
    if flags.checkpoint:
        return [
            "--gin.BenchmarkConfig.system=@CheckpointSystem()",
            f"--gin.CheckpointSystem.checkpoint={flags.checkpoint!r}",
        ]
    if flags.recorded:
        return [
            "--gin.BenchmarkConfig.system=@RecordedSystem()",
            f"--gin.RecordedSystem.path={flags.recorded!r}",
        ]
    if not flags.url:
        return []
    return [
        "--gin.BenchmarkConfig.system=@EndpointSystem()",
        "--gin.EndpointSystem.endpoint=@tested/Endpoint()",
        f"--gin.tested/Endpoint.url={flags.url!r}",
        *([f"--gin.tested/Endpoint.model={flags.model!r}"] if flags.model else []),
    ]
