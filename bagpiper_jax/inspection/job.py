"""The job `inspect_data`: one view of a cached mixture, as text and, if asked for, as a page and as sound files."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.limits import MixtureLimits
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.mixture import Mixture
from bagpiper_jax.data.records import Record
from bagpiper_jax.inspection import page, sound, text
from bagpiper_jax.inspection.clip_history import find, origin
from bagpiper_jax.inspection.comparison import compare
from bagpiper_jax.inspection.examples import Shown, show_record, show_row
from bagpiper_jax.inspection.proposal import propose
from bagpiper_jax.inspection.seqio_check import check_seqio
from bagpiper_jax.inspection.served import ServedMixture, cache_of
from bagpiper_jax.inspection.survey import sample_rows, survey
from bagpiper_jax.inspection.validation import validate
from bagpiper_jax.runs.chips import find_slice
from bagpiper_jax.text import TextTokenizer
from bagpiper_jax.training.config import TrainConfig

_MOST_STEPS = 10**8
"""No run is longer; a row is planned by planning all windows before it."""

_BOUNDS = {
    "steps": (1, _MOST_STEPS), "step": (-1, _MOST_STEPS), "row": (0, 2**31), "index": (-1, 2**63 - 1),
    "seed": (0, 2**63 - 1), "cfg_dropout": (0, 1), "rejects": (0, 2**31), "seqio_shards": (0, 2**31),
    "dialogues": (0, 2**31),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class InspectConfig:
    """Shows a cached mixture: its summary, or one example, row, clip, list of rejects or difference.

    Attributes:
        lock: `<mixture>.lock.json` of the cache job.
        train: a run whose mixture and settings are taken, in place of `lock` to `steps`.
        tokenizer: the one the mixture was cached with.
        split: the split of the mixture.
        shape, seed, cfg_dropout, steps: those of the run, so that rows are the run's.
        validate: checks the mixture against `limits`, and its caches against what SeqIO gives where that can be run.
        limits: the limits it must keep to; None takes the run's, or the defaults.
        data_root: holds the corpora, where caches are compared with what they were made from.
        task_modules: the modules whose import registers the tasks, as in `CacheConfig`.
        seqio_shards: shards of each cache that `validate` compares with SeqIO, evenly spread; 0 for all.
        dialogues: dialogues of each task, and annotated clips of each corpus, that `validate` reads for contradictions;
            0 for all.
        propose: shows the lines of a batch that fits the lengths of the mixture, as gin.
        task, index: shows this example; index -1 for none.
        id: shows what became of this clip in every task.
        step, row: shows this row; step -1 for none.
        rejects: shows so many rejects of each reason.
        compare: another lock; shows what differs in it.
        html: the page that what is shown is also written to.
        audio_dir: the directory that clips of shown examples are written to; "" for none.
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
    limits: MixtureLimits | None = None
    data_root: str = "corpora"
    task_modules: tuple[str, ...] = ("tasks.mixtures",)
    seqio_shards: int = 1
    dialogues: int = 20_000
    propose: bool = False
    task: str = ""
    index: int = -1
    id: str = ""
    step: int = -1
    row: int = 0
    rejects: int = 0
    compare: str = ""
    html: str = ""
    audio_dir: str = ""
    codec: str = ""
    contents: bool = False

    def __post_init__(self):
        if bool(self.lock) == bool(self.train):
            raise ValueError("give either a lock (--lock=FILE) or a run (--run=GIN_FILE)")
        for name, (least, most) in _BOUNDS.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name} must be {least} to {most}, got {value}")

    def held_to(self) -> MixtureLimits:
        """The limits of `validate`."""
        return self.limits or (self.train.limits if self.train else MixtureLimits())

    def served(self) -> ServedMixture:
        """The mixture with the settings of its run."""
        if self.train:
            return dataclasses.replace(ServedMixture.of_training(self.train), split=self.split)
        return ServedMixture(
            self.lock, self.tokenizer, self.codec, self.split, self.shape, None, self.seed, self.cfg_dropout,
            self.steps,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class View:
    """One thing to show.

    Attributes:
        title: the title of the page.
        said: the text for a terminal.
        page: makes its page, given the codec's decoder or None.
        examples: stem of file names → example whose clips can be written.
        violated: whether a limit is violated.
    """

    title: str
    said: str
    page: Callable[[sound.Decode | None], page.Page]
    examples: dict[str, Shown] = dataclasses.field(default_factory=dict)
    violated: bool = False


def inspect(config: InspectConfig) -> View:
    """Makes the view that the configuration asks for, and writes its page and its clips if it names a place.

    Raises:
        Explained: what is asked for cannot be shown or written.
    """
    mixture = config.served()
    view = _view(config, mixture)
    written = []
    decode = sound.decoder(mixture.codec) if mixture.codec and (config.html or config.audio_dir) else None
    if config.audio_dir:
        directory = Path(config.audio_dir)
        written += [
            p for stem, e in view.examples.items() for p in sound.write_clips(e, directory, stem, decode)
        ]
    if config.html:
        written.append(page.write(config.html, view.title, _facts(mixture), view.page(decode)))
    return dataclasses.replace(view, said=view.said + "".join(f"\nwrote {path}" for path in written))


def _facts(mixture: ServedMixture) -> str:
    shape = mixture.shape
    return (
        f"{mixture.lock} · {mixture.split} · {shape.rows} rows of {shape.slots} slots · seed {mixture.seed}"
    )


def _view(config: InspectConfig, mixture: ServedMixture) -> View:
    if config.validate:
        return _validation(config, mixture)
    if config.compare:
        return _difference(config, mixture)
    if config.propose:
        return _proposal(config, mixture)
    if faults := mixture.mismatches():
        raise CacheError("; ".join(faults))
    loader, tokenizer = mixture.open(), mixture.load_tokenizer()
    if config.contents:
        for cache in loader.caches:
            cache.check_files(contents=True)
    if config.rejects:
        return _rejects(config, loader)
    if config.id:
        return _clip(config, mixture, loader, tokenizer)
    if config.index >= 0:
        return _example(config, mixture, loader, tokenizer)
    if config.step >= 0:
        return _row(config, loader, tokenizer)
    found = survey(loader, mixture.steps, mixture.split, sample_rows(loader, mixture.steps))
    return View(found.mixture, text.describe_survey(found), lambda _: page.survey_page(found))


def _validation(config: InspectConfig, mixture: ServedMixture) -> View:
    found = validate(mixture, config.held_to(), config.data_root, config.dialogues)
    if found.survey:
        settings = (config.data_root, config.task_modules, config.seqio_shards)
        different, notes = check_seqio(mixture, *settings)
        violations = (*found.violations, *different)
        found = dataclasses.replace(found, violations=violations, notes=(*found.notes, *notes))
    vocabulary = mixture.open().vocabulary if found.rows else None
    title = f"Validation of {found.survey.mixture if found.survey else mixture.lock}"
    shown = functools.partial(page.validation_page, found, vocabulary)
    return View(title, text.describe_validation(found), lambda _: shown(), violated=bool(found.violations))


def _proposal(config: InspectConfig, mixture: ServedMixture) -> View:
    opened = Mixture.open(mixture.lock, mixture.split)
    run = config.train
    chips = find_slice(run.slice).chips if run and run.slice else 1
    unit = chips * run.accumulation if run else 1
    lock, limits = opened.lock, config.held_to()
    found = propose(lock.mixture, opened.lengths(), lock.rate_unit, mixture.shape, mixture.seed, unit, limits)

    def shown(_) -> page.Page:  # of the mixture in the batch that is proposed
        served = dataclasses.replace(mixture, shape=found.shape).open()
        return page.survey_page(
            survey(served, mixture.steps, mixture.split, sample_rows(served, mixture.steps))
        )

    return View(f"A batch for {lock.mixture}", str(found), shown)


def _difference(config: InspectConfig, mixture: ServedMixture) -> View:
    found = compare(mixture.lock, config.compare, mixture.split)
    title = f"{Path(mixture.lock).name} and {Path(config.compare).name}"
    return View(title, text.describe_difference(found), lambda _: page.difference_page(found))


def _rejects(config: InspectConfig, loader: Loader) -> View:
    said = "\n".join(text.describe_rejects(cache, config.rejects) for cache in loader.caches)
    shown = functools.partial(page.reject_page, loader.task_names, loader.caches, config.rejects)
    return View(f"Rejects of {loader.lock.mixture}", said, lambda _: shown())


def _clip(config: InspectConfig, mixture: ServedMixture, loader: Loader, tokenizer: TextTokenizer) -> View:
    fates, source = find(loader, config.id), origin(loader, config.id, config.data_root)
    if source is None and not any(fate.record or fate.reject or fate.fault for fate in fates):
        raise CacheError(f"no task of {loader.lock.mixture} knows a clip {config.id!r} in this split")
    shown = {}
    for fate in fates:
        if fate.record:
            shown |= _variants(fate.record, fate.task, fate.index, tokenizer, loader, mixture)
    absent = [fate for fate in fates if not fate.record]
    said = [f"[{e.task} record {e.index}] {text.describe_example(e)}" for e in shown.values()]
    return View(
        config.id,
        "\n".join(
            [*said, *map(text.describe_absence, absent), *([text.describe_origin(source)] if source else [])]
        ),
        lambda decode: page.example_page(list(shown.values()), loader.vocabulary, decode, absent, source),
        shown,
    )


def _example(config: InspectConfig, mixture: ServedMixture, loader: Loader, tokenizer: TextTokenizer) -> View:
    cache = cache_of(loader, config.task)
    if config.index >= len(cache):
        raise CacheError(f"{config.task} has {len(cache)} records, there is no record {config.index}")
    shown = _variants(cache.read(config.index), config.task, config.index, tokenizer, loader, mixture)
    return View(
        f"{config.task}, record {config.index}",
        "\n".join(map(text.describe_example, shown.values())),
        lambda decode: page.example_page(list(shown.values()), loader.vocabulary, decode),
        shown,
    )


def _variants(record: Record, task: str, index: int, tokenizer, loader, mixture) -> dict[str, Shown]:
    """Every variant of an example, by the stem of its files' names."""
    render, found = mixture.rendering(), {}
    for variant in range(record.variants):
        stem = f"{task}_{index}" + (f"_variant{variant + 1}" if record.variants > 1 else "")
        found[stem] = show_record(record, task, index, tokenizer, loader.vocabulary, render, variant)
    return found


def _row(config: InspectConfig, loader: Loader, tokenizer: TextTokenizer) -> View:
    if config.row >= loader.shape.rows:
        raise CacheError(f"a step has {loader.shape.rows} rows, there is no row {config.row}")
    title = f"step {config.step} row {config.row}"
    planned = loader.plan.row(config.step * loader.shape.rows + config.row)
    row = show_row(loader, planned, title, tokenizer)
    stem = title.replace("step ", "step").replace(" row ", "_row")
    return View(
        title.capitalize(),
        text.describe_row(row),
        lambda decode: page.row_page(row, loader.vocabulary, decode),
        {f"{stem}_{place:02d}_{e.task}": e for place, e in enumerate(row.examples)},
    )
