"""Is it the captions? Trains and scores every arm that docs/claim.md compares, at sizes that two CPU cores can train.

    python benchmarks/claim/claim.py [--reduced] [--only=order,few] [--seeds=0,1] [--clips=64] [--output=FILE]
    python benchmarks/claim/claim.py --figures=docs/figures      draws from results.json; needs matplotlib

Run in the repository, in the environment of launch/quickstart.sh. All of it takes some seven hours, `--reduced` (one
seed, order and sound) less than 40 minutes. Interrupted, the same command goes on. Each run's gin, lock and versions
stand in its directory below runs/claim.
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from claim_runs import DIRECTORY, EXPERIMENTS, REDUCED, SIZES, WHOLE, Budget, Run, runs

HERE = Path(__file__).parent
CORPUS = "corpora/embedded"
MIXTURES = "gin/mixtures/claim.gin"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument(
        "--only", type=_names, default=(), metavar="EXPERIMENT,…", help=", ".join(EXPERIMENTS)
    )
    parser.add_argument("--seeds", type=_numbers, default=(), metavar="SEED,…")
    parser.add_argument("--clips", type=int, default=64, help="held-out clips to score on")
    parser.add_argument("--output", type=Path, default=Path(DIRECTORY, "results.json"))
    parser.add_argument("--figures", type=Path, help="directory of the figures that are drawn of --output")
    given = parser.parse_args()
    if unknown := set(given.only) - set(EXPERIMENTS):
        parser.error(f"unknown experiments {', '.join(sorted(unknown))}; known: {', '.join(EXPERIMENTS)}")
    if given.figures:
        from claim_figures import draw

        draw(json.loads(given.output.read_text()), given.figures)
        return
    budget = REDUCED if given.reduced else WHOLE
    budget = dataclasses.replace(
        budget, seeds=given.seeds or budget.seeds, experiments=given.only or budget.experiments
    )
    started = time.monotonic()
    scores = experiment(budget, given.clips)
    write(scores, budget, given, time.monotonic() - started)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, _names(text)))


def experiment(budget: Budget, clips: int) -> list[tuple[Run, dict]]:
    """Makes what is missing; returns each run that is scored, with what it is scored on → its records."""
    prepare()
    for size in {run.size for run in runs(budget, _AnyLength())}:
        start(size)
    wanted = runs(budget, lengths())
    for place, run in enumerate(wanted, 1):
        print(f"\n== {run.directory}, {place} of {len(wanted)}", flush=True)
        train(run)
    return [(run, scored(run, clips)) for run in wanted if run.scored]


class _AnyLength(dict):
    """Lengths before there are any: which runs there are does not depend on them."""

    def __missing__(self, key: str) -> float:
        return 1.0


def prepare() -> None:
    """Corpus, tokenizer, codes and caches, as the quickstart makes them; the jobs leave alone what is there."""
    job("build_corpus", "--gin_file=gin/corpora/embedded.gin")
    job("learn_tokenizer", "--gin_file=gin/corpora/tokenizer.gin")
    job("tokenize_audio", f"--gin.TokenizeConfig.corpus={CORPUS}")
    job("cache_tasks", f"--gin_file={MIXTURES}")


def start(size: str) -> None:
    """The shipped tower in a fresh decoder of a size."""
    directory = f"{DIRECTORY}/start_{size}"
    if not Path(directory).is_dir():
        job("import_checkpoint", "--gin_file=gin/runs/nano_start.gin", f"--gin.ImportConfig.output={directory}",
            *_bindings("DecoderConfig", SIZES[size]))  # fmt: skip


def lengths() -> dict[str, float]:
    """See `claim_runs.runs`: read off the caches."""
    from bagpiper_jax.data.mixture import Mixture

    found = {}
    for path in Path(DIRECTORY, "cache").glob("*.lock.json"):
        tasks = Mixture.open(str(path), "train").lengths()
        if len(tasks) == 1:
            found[path.name.removesuffix(".lock.json")] = _mean_slots(tasks[0].length)
        elif path.name.startswith("claim_unified"):
            rates = {task.name: task.rate for task in tasks}
            found |= {f"share:{name}": rate / sum(rates.values()) for name, rate in rates.items()}
    return found


def _mean_slots(length) -> float:
    return float(length[length > 0].mean())


def train(run: Run) -> None:
    """Trains a run, or what is left of it."""
    lock = f"{DIRECTORY}/cache/{run.lock}.lock.json"
    settings = {
        "output": run.directory, "train_lock": lock, "validation_lock": lock, "init_from": run.start,
        "stage": "pretrain" if run.pretrains else "sft", "seed": run.seed, "steps": run.steps,
    }  # fmt: skip
    job(
        "train",
        f"--gin_file=gin/runs/{'nano_pretrain' if run.pretrains else 'claim'}.gin",
        *_bindings("TrainConfig", settings),
        f"--gin.OptimizerConfig.decay_end={run.steps}",
        *_bindings("DecoderConfig", SIZES[run.size]),
    )


def _bindings(name: str, settings: dict) -> list[str]:
    return [f"--gin.{name}.{field}={value!r}" for field, value in settings.items()]


def job(name: str, *arguments: str) -> None:
    """One job in a process of its own, with our task module in reach; its log is ours."""
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    subprocess.run(
        [sys.executable, "-m", "bagpiper_jax", name, *arguments],
        check=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def scored(run: Run, clips: int) -> dict[str, list[dict]]:
    """The records of a run, made now or before: what it is scored on → records."""
    import claim_scores

    path = Path(run.directory, f"claim_{clips}.json")
    if path.exists():
        return json.loads(path.read_text())
    from bagpiper_jax import files

    examples, loop, listener = _judges(clips, run.seed)
    generator = _generator(run.directory)
    found = {}
    for what in run.scored:
        if what == "questions":
            found[what] = claim_scores.score_questions(generator, examples, loop, run.form)
        elif what == "captions":
            found[what] = claim_scores.score_captions(generator, examples, loop)
        elif what == "sounds":
            found[what] = claim_scores.score_sounds(generator, examples, loop, listener)
        else:
            found[what] = claim_scores.score_requests(generator, examples, loop, listener, run.form)
    files.replace(path, json.dumps(found, ensure_ascii=False, indent=1))
    return found


_opened: dict = {}


def _judges(clips: int, seed: int):
    """Held-out clips, sampling, and the model that listens: the pretrained one of the seed. Opened once."""
    from bagpiper_jax import configuration
    from bagpiper_jax.evaluation.benchmarks.scenes.corpus import read_corpus
    from bagpiper_jax.generation.segments import LoopConfig

    if "clips" not in _opened:
        _opened["clips"] = read_corpus(CORPUS, "test", clips).held_out
        _opened["loop"] = configuration.build(LoopConfig, ["gin/models/nano_sampling.gin"])
    return _opened["clips"], _opened["loop"], _generator(f"{DIRECTORY}/base_nano_{seed}", keep="listener")


def _generator(directory: str, keep: str = "generator"):
    """Two models are open at most: the one that is scored, and the one that listens."""
    from bagpiper_jax.generation.replies import load_generator

    if _opened.get(keep, ("",))[0] != directory:
        _opened[keep] = directory, load_generator(directory)
    return _opened[keep][1]


def write(
    scores: Sequence[tuple[Run, dict]], budget: Budget, given: argparse.Namespace, seconds: float
) -> None:
    """results.json and the table that docs/claim.md shows."""
    from claim_summary import differences, rows, table

    from bagpiper_jax.runs.provenance import environment

    found = {
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "environment": environment(),
        "budget": dataclasses.asdict(budget),
        "clips": given.clips,
        "seconds": round(seconds),
        "rows": rows(scores),
        "differences": differences(scores),
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
