"""Shows what a cache holds and what any step of a run will see, and checks a mixture before launch.

inspect_data --lock=cache/embedded_pretraining.lock.json      the mixture, per task
    --validate                                               every violated limit; exit code 4 if there is one
    --step=1200 --row=3                                      one row of a step, past or future
    --task=NAME --index=7                                    one example of a task
    --id=CLIP                                                what became of a clip in every task
    --rejects=5                                              rejects, five of each reason
    --compare=OTHER.lock.json                                what differs between two caches
    --html=PAGE.html                                         the same as a page with pictures and sound
    --audio_dir=DIR                                          writes the clips of an example or row
With --run=gin/runs/nano_pretrain.gin instead of a lock, all settings are those of that run. A codec's file
(--codec=FILE, or the run's) decodes codes. Each flag is short for --gin.InspectConfig.<flag>.
"""

import dataclasses
import re
import sys
from pathlib import Path

from bagpiper_jax import configuration
from bagpiper_jax.data.batch import BatchShape
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.codes import CodeStoreError
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.planner import PlanError
from bagpiper_jax.data.records import RecordError
from bagpiper_jax.dialogue import DialogueError
from bagpiper_jax.inspection import sound, text
from bagpiper_jax.inspection.limits import MixtureLimits
from bagpiper_jax.inspection.served import ServedMixture, cache_of
from bagpiper_jax.inspection.shown import Shown, show_record, show_row
from bagpiper_jax.inspection.survey import sample_rows, survey
from bagpiper_jax.inspection.validation import Validation, validate
from bagpiper_jax.text import TokenizerError
from bagpiper_jax.training.config import TrainConfig

EXIT_VIOLATED = 4


@dataclasses.dataclass(frozen=True)
class InspectConfig:
    """Shows a cached mixture: its summary, or one example, row, clip, list of rejects or difference.

    Attributes:
        lock: `<mixture>.lock.json` of the cache job.
        train: a run whose mixture and settings are taken, in place of `lock` to `steps`.
        tokenizer: the one the mixture was cached with.
        split: of the mixture.
        shape, seed, cfg_dropout, steps: those of the run, so that rows are the run's.
        validate: checks the mixture against `limits`.
        limits: what it must keep to.
        data_root: holds the corpora, where caches are compared with what they were made from.
        task, index: shows this example; index -1 for none.
        step, row: shows this row; step -1 for none.
        rejects: shows so many rejects of each reason.
        audio_dir: where the clips of a shown example or row are written; "" for nowhere.
        codec: file of the codec that made the codes: clips of codes are decoded too.
        contents: True compares every shard with its hash.
    """

    lock: str = ""
    train: TrainConfig | None = None
    tokenizer: str = "byte"
    split: str = "train"
    shape: BatchShape = BatchShape(rows=8, slots=8192, chunks=128)
    seed: int = 0
    cfg_dropout: float = 0.0
    steps: int = 1000
    validate: bool = False
    limits: MixtureLimits = MixtureLimits()
    data_root: str = "corpora"
    task: str = ""
    index: int = -1
    step: int = -1
    row: int = 0
    rejects: int = 0
    audio_dir: str = ""
    codec: str = ""
    contents: bool = False

    def __post_init__(self):
        if bool(self.lock) == bool(self.train):
            raise ValueError("give either a lock (--lock=FILE) or a run (--run=GIN_FILE)")

    def served(self) -> ServedMixture:
        """The mixture with the settings of its run."""
        if self.train:
            return dataclasses.replace(ServedMixture.of_training(self.train), split=self.split)
        return ServedMixture(
            self.lock, self.tokenizer, self.codec, self.split, self.shape, None, self.seed, self.cfg_dropout,
            self.steps,
        )  # fmt: skip


def inspect(config: InspectConfig) -> str:
    """The text that the configuration asks for. Raises CacheError."""
    mixture = config.served()
    if faults := mixture.mismatches():
        raise CacheError("; ".join(faults))
    loader, tokenizer = mixture.open(), mixture.load_tokenizer()
    if config.contents:
        for cache in loader.caches:
            cache.check_files(contents=True)
    if config.rejects:
        return "\n".join(text.describe_rejects(cache, config.rejects) for cache in loader.caches)
    if config.index >= 0:
        record = _record(loader, config.task, config.index)
        example = show_record(record, config.task, config.index, tokenizer, loader.vocabulary)
        stems = {f"{config.task}_{config.index}": example}
        return text.describe_example(example) + _written(config, mixture, stems)
    if config.step >= 0:
        planned = loader.plan.row(config.step * loader.shape.rows + config.row)
        row = show_row(loader, planned, f"step {config.step} row {config.row}", tokenizer)
        stem = f"step{config.step}_row{config.row}"
        stems = {f"{stem}_{place:02d}_{e.task}": e for place, e in enumerate(row.examples)}
        return text.describe_row(row) + _written(config, mixture, stems)
    sampled = sample_rows(loader, mixture.steps)
    return text.describe_survey(survey(loader, mixture.steps, mixture.split, sampled))


def check(config: InspectConfig) -> Validation:
    """The validation that the configuration asks for."""
    return validate(config.served(), config.limits, config.data_root)


def _written(config: InspectConfig, mixture: ServedMixture, examples: dict[str, Shown]) -> str:
    """Writes the clips of examples, by stem of their file names, if they are asked for; tells their paths."""
    if not config.audio_dir:
        return ""
    decode = sound.decoder(mixture.codec) if mixture.codec else None
    directory = Path(config.audio_dir)
    written = [p for stem, e in examples.items() for p in sound.write_clips(e, directory, stem, decode)]
    return "".join(f"\nwrote {path}" for path in written)


def _record(loader: Loader, task: str, index: int):
    cache = cache_of(loader, task)
    if index >= len(cache):
        raise CacheError(f"{task} has {len(cache)} records, there is no record {index}")
    return cache.read(index)


def expand(argv: list[str]) -> list[str]:
    """Short flags to bindings."""
    names = "|".join(field.name for field in dataclasses.fields(InspectConfig))
    found = []
    for flag in argv:
        if flag.startswith("--run="):
            found += [f"--gin_file={flag.removeprefix('--run=')}", "--gin.InspectConfig.train=@TrainConfig()"]
        elif flag in ("--validate", "--contents"):
            found.append(f"--gin.InspectConfig.{flag.removeprefix('--')}=True")
        else:
            found.append(re.sub(rf"^--({names})=", r"--gin.InspectConfig.\1=", flag))
    return found


def main(argv: list[str] | None = None) -> int:
    config = configuration.load(InspectConfig, expand(sys.argv[1:] if argv is None else argv), __doc__)
    try:
        if config.validate:
            found = check(config)
            print(text.describe_validation(found))
            return EXIT_VIOLATED if found.violations else 0
        print(inspect(config))
    except (CacheError, CodeStoreError, DialogueError, PlanError, RecordError, TokenizerError) as error:
        sys.exit(f"inspect_data: {error}")
    return 0


if __name__ == "__main__":
    configuration.run_job(lambda: sys.exit(main()))
