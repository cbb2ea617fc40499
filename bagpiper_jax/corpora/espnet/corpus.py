"""Builds a corpus from ESPnet's dataset files; `docs/corpora.md` has the commands.

A sample of an audio task becomes a clip with audio and caption that only the named direction uses, a dialogue stays as
it is. Every sample that the datasets name is a clip or a reject.
"""

import collections
import dataclasses
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from bagpiper_jax import files
from bagpiper_jax.corpora import assembly, user, user_records
from bagpiper_jax.corpora.assembly import CorpusError, Reject
from bagpiper_jax.corpora.espnet import inference, recipe, samples, specifiers
from bagpiper_jax.corpora.espnet.readers import Value
from bagpiper_jax.corpora.espnet.samples import DIRECTIONS
from bagpiper_jax.corpora.espnet.specifiers import Specifier
from bagpiper_jax.corpora.user import UserCorpusConfig
from bagpiper_jax.corpora.user_records import UserRecord
from bagpiper_jax.manifest import Clip, read_manifest
from bagpiper_jax.outcomes import RecordError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EspnetCorpusConfig:
    """A corpus out of ESPnet's files.

    Attributes:
        train, validation, test: specifiers, as given to ESPnet's scripts (docs/reference.md, Dataset files).
        directory: where the corpus is written.
        registries: YAML files of registered datasets, what ESPNET_DATASET_REGISTRY lists.
        root: what relative paths in the files are relative to: the recipe folder that ESPnet ran in.
        stats: folder of the length files; a sample without a length is rejected, as ESPnet never trains on it.
        recipe: a training YAML to convert to `<directory>/run.gin`.
        inference: an inference YAML to convert to `<directory>/generate.gin`.
        gpus: of the run that the recipe was written for; each takes one row per micro-batch.
        default_domain, default_language, default_licence: of all clips, as the files state none.
        min_seconds, max_seconds, max_chars, max_reject_frac, workers: see `UserCorpusConfig`.
    """

    train: tuple[str, ...]
    directory: str
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    root: str = "."
    stats: str = ""
    recipe: str = ""
    inference: str = ""
    gpus: int = 8
    default_domain: str = "mixed"
    default_language: str = "en"
    default_licence: str = "unknown"
    min_seconds: float = 0.1
    max_seconds: float = 30.0
    max_chars: int = 40_000
    max_reject_frac: float = 0.1
    workers: int = 2

    def __post_init__(self):
        if not self.train or self.gpus < 1:
            raise ValueError("train needs at least one specifier, and gpus at least one")


def build(config: EspnetCorpusConfig) -> Path:
    """Builds the corpus and writes `mixture.gin` and what the YAMLs give beside it; returns its directory.

    Raises:
        CorpusError: a file that is missing or of another form, a recipe that has no equal here, too many rejects.
    """
    directory, root = Path(config.directory), Path(config.root)
    assembly.begin(directory, "espnet")
    converted = {}
    if config.recipe:
        converted["run.gin"] = recipe.convert(config.recipe, root, config.gpus, directory.name)
    if config.inference:
        converted["generate.gin"] = inference.convert(config.inference)
    registry = specifiers.read_registries(config.registries)
    collected = _Collected(config)
    for split in ("train", "validation", "test"):
        for text in getattr(config, split):
            collected.add(specifiers.parse(text, registry, root), split)
    facts = {"corpus": "espnet", "config": dataclasses.asdict(config), "specifiers": collected.facts}
    user.finish(_limits(config), collected.records, collected.rejects, root, facts)
    converted["mixture.gin"] = _mixture(directory, _examples(read_manifest(directory), collected.factors))
    for name, text in converted.items():
        files.replace(directory / name, text)
    return directory


def _limits(config: EspnetCorpusConfig) -> UserCorpusConfig:
    shared = {f.name for f in dataclasses.fields(UserCorpusConfig)} & {
        f.name for f in dataclasses.fields(config)
    }
    return UserCorpusConfig(source="espnet", **{name: getattr(config, name) for name in shared})


class _Collected:
    """Records by id, rejects, and what was counted, over all specifiers."""

    def __init__(self, config: EspnetCorpusConfig):
        self.records: dict[str, UserRecord] = {}
        self.rejects: list[Reject] = []
        self.facts: list[dict] = []
        self.factors: dict[tuple[str, str], float] = {}
        self._config = config
        self._paths: dict[str, Path] = {}

    def add(self, specifier: Specifier, split: str) -> None:
        """Takes over the samples of one specifier. Raises CorpusError."""
        if self._paths.setdefault(specifier.name, specifier.path) != specifier.path:
            raise CorpusError(
                f"dataset {specifier.name} has two paths: {self._paths[specifier.name]}, {specifier.path}"
            )
        root, stats = Path(self._config.root), self._config.stats
        dataset = specifiers.read_dataset(specifier, root)
        lengths = specifiers.read_lengths(stats, specifier) if stats and split != "test" else None
        if split == "train":
            self.factors[specifier.name, specifier.task] = specifier.factor
        before, added = len(self.rejects), 0
        for joined in samples.joined(dataset, lengths):
            if isinstance(joined, Reject):
                self.rejects.append(joined)
                continue
            sample, values = joined
            try:
                self._keep(specifier, split, sample, values)
                added += 1
            except Exception as error:
                self._reject(values[0], sample, assembly.fault_of(error))
        self.facts.append({
            "task": specifier.task, "name": specifier.name, "split": split, "factor": specifier.factor,
            "sha256": files.sha256(dataset.path), "samples": len(dataset.samples), "taken": added,
            "rejected": len(self.rejects) - before, "slots": sum(lengths.values()) if lengths else None,
        })  # fmt: skip
        _log.info("%s:%s: %d samples, %d taken", specifier.task, specifier.name, len(dataset.samples), added)

    def _reject(self, where: Value, sample: str, error: RecordError) -> None:
        self.rejects.append(samples.reject(where, sample, error))

    def _keep(self, specifier: Specifier, split: str, sample: str, values: list[Value]) -> None:
        """Keeps the record; a sample that another direction gave already serves both. Raises RecordError."""
        record = self._record(specifier, split, sample, values)
        known = self.records.get(record.id)
        if known and (
            not known.directions or known.split != split or record.directions[0] in known.directions
        ):
            raise RecordError("duplicate_id", f"{sample} of {specifier.name} was read before", "name it once")
        if known:  # what a task of audio calls caption is the text of text_only
            both = (*known.directions, *record.directions)
            record = dataclasses.replace(record if record.audio else known, directions=both)
        self.records[record.id] = record

    def _record(self, specifier: Specifier, split: str, sample: str, values: list[Value]) -> UserRecord:
        fields, audio = samples.fields(specifier, sample, values, Path(self._config.root))
        part = {}
        if audio:
            fields["audio"] = audio.path
            part = {name: getattr(audio, name) for name in ("start", "seconds", "offset", "size")}
        record = user_records.parse(fields | {"split": split}, values[0].line, self._config.max_chars)
        directions = samples.directions(specifier)
        return dataclasses.replace(record, file=values[0].file, directions=directions, **part)


def _examples(clips: Iterable[Clip], factors: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Examples of each of our tasks, as often as the specifiers' factors repeat them."""
    examples: dict[str, float] = collections.defaultdict(float)
    used = collections.defaultdict(set)
    for clip in clips:
        for purpose, task in _purposes(clip) if clip.split == "train" else ():
            examples[purpose] += factors[clip.source, task]
            used[purpose].add(factors[clip.source, task])
    for purpose, different in used.items():
        if len(different) > 1:
            _log.warning(
                "%s: the factors %s become their mean, since a task draws its clips evenly; to keep them apart build "
                "a corpus for each and register it (tasks.mixtures.add_corpus)",
                purpose,
                sorted(different),
            )
    return examples


def _purposes(clip: Clip) -> list[tuple[str, str]]:
    """Our tasks that use the clip, each with ESPnet's."""
    if clip.dialogue:
        answers = any((role, kind) == ("assistant", "audio") for role, kind, _ in clip.dialogue)
        return [("sft_generation" if answers else "sft_understanding", "dialogue")]
    return [(ours, theirs) for theirs, ours in DIRECTIONS.items() if ours in (clip.directions or ())]


def _mixture(directory: Path, examples: Mapping[str, float]) -> str:
    """Gin that mixes the directions as ESPnet does: every sample as often as the others, times its factor."""
    corpus = directory.name
    tasks = {"pretraining": tuple(DIRECTIONS.values()), "sft": ("sft_generation", "sft_understanding")}
    kinds = [kind for kind, purposes in tasks.items() if any(examples.get(p) for p in purposes)]
    rates = {f"{corpus}_{p}": round(examples.get(p, 0.0), 6) for kind in kinds for p in tasks[kind]}
    return (
        "# The proportions of ESPnet's specifiers. Give --gin.CacheConfig.tokenizer and .codec.\n\n"
        f"CacheConfig.mixtures = {tuple(f'{corpus}_{kind}' for kind in kinds)!r}\n"
        f"CacheConfig.data_root = {str(directory.parent)!r}\n"
        "CacheConfig.cache_dir = 'cache'\n"
        "CacheConfig.rate_unit = 'examples'\n"
        f"CacheConfig.rates = {rates!r}\n"
    )
