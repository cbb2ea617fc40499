"""Tuning dialogues in the caches of a mixture, and captions in its corpora, that contradict themselves."""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from bagpiper_jax.captions import AnnotationError, AudioAnnotation
from bagpiper_jax.corpora.contradictions import Fault, Verdict, judge_caption, judge_dialogue
from bagpiper_jax.data.cache import TaskCache
from bagpiper_jax.data.records import Record
from bagpiper_jax.errors import Explained
from bagpiper_jax.inspection.limits import Violation
from bagpiper_jax.manifest import MANIFEST, ManifestError, read_manifest
from bagpiper_jax.text import TextTokenizer

_MOST_NAMED = 20
"""Records of a task that are named for one reason; the others are counted."""

_REMEDY = "mend or drop the record in the corpus's source, then run build_corpus and cache_tasks again"


@dataclasses.dataclass(frozen=True)
class Judged:
    """A task's dialogues, or a corpus's annotated captions.

    Attributes:
        place: the task, or the corpus.
        what: "dialogues" or "annotated captions".
        read, total: the number of those that were read, and of all; the total of a corpus is not counted: 0.
        judged, not_judged: answers that the caption's facts decide, and those that they leave open.
        faults: where each stands, and what it is.
    """

    place: str
    what: str
    read: int
    total: int
    judged: int
    not_judged: int
    faults: tuple[tuple[str, Fault], ...]

    @property
    def reasons(self) -> dict[str, int]:
        """Reason → number of faults."""
        return dict(collections.Counter(fault.reason for _, fault in self.faults))

    def violations(self) -> Iterator[Violation]:
        """A violation for each fault; of many for one reason the first, and their number."""
        for reason, count in self.reasons.items():
            of_reason = (each for each in self.faults if each[1].reason == reason)
            for place, fault in itertools.islice(of_reason, _MOST_NAMED):
                yield Violation(reason, place, fault.detail, _REMEDY)
            if count > _MOST_NAMED:
                yield Violation(reason, self.place, f"{count - _MOST_NAMED} more", _REMEDY)


def judge_tuning_data(
    caches: Mapping[str, TaskCache], tokenizer: TextTokenizer, data_root: str, most: int
) -> tuple[Judged, ...]:
    """Judges the dialogues of every task that has some, and the captions of every corpus with annotations.

    Args:
        caches: task → its cache.
        tokenizer: the one that they were cached with.
        data_root: holds the corpora; those that are not there are left out.
        most: dialogues of a task to read, evenly spread, and annotated clips of a corpus, its first; 0 for all.
    """
    tasks = [_judge_task(name, cache, tokenizer, most) for name, cache in caches.items()]
    corpora = [_judge_corpus(corpus, most) for corpus in _corpora(caches.values(), data_root)]
    return tuple(found for found in (*tasks, *corpora) if found.read)


def _judge_task(name: str, cache: TaskCache, tokenizer: TextTokenizer, most: int) -> Judged:
    total = len(cache)
    places = np.unique(np.linspace(0, total - 1, min(most or total, total)).round().astype(int))
    read = judged = not_judged = 0
    faults: list[tuple[str, Fault]] = []
    for place in places.tolist():
        try:
            record = cache.read(place, audio=False)
            dialogues = [said for said in _dialogues(record, tokenizer) if _is_answered(said)]
        except Explained:
            continue  # what is damaged is named elsewhere
        verdicts = [judge_dialogue(dialogue) for dialogue in dialogues]
        read += bool(verdicts)
        judged += sum(verdict.judged for verdict in verdicts)
        not_judged += sum(verdict.not_judged for verdict in verdicts)
        where = f"{name} record {place} ({record.id})"
        faults += [(where, fault) for verdict in verdicts for fault in verdict.faults]
    return Judged(name, "dialogues", read, total, judged, not_judged, tuple(faults))


def _dialogues(record: Record, tokenizer: TextTokenizer) -> Iterator[list[tuple[str, str, str]]]:
    """Every variant of a record as (role, modality, text)s."""
    for variant in range(record.variants):
        if not _is_answered([(m.role, m.modality, "") for m in record.skeleton(variant)]):
            continue
        messages = record.messages(decode_audio=False, variant=variant)
        yield [
            (m.role, m.modality, tokenizer.decode(m.content) if m.modality == "text" else "")
            for m in messages
        ]


def _is_answered(messages: list[tuple[str, str, str]]) -> bool:
    """Whether a user writes and the assistant does: pre-training has none of these."""
    kinds = {(role, modality) for role, modality, _ in messages}
    return {("user", "text"), ("assistant", "text")} <= kinds


def _corpora(caches: Iterable[TaskCache], data_root: str) -> list[Path]:
    """The corpora that some caches were made from, where they are at hand."""
    inputs = itertools.chain.from_iterable(c.manifest["provenance"].get("inputs", {}) for c in caches)
    names = dict.fromkeys(Path(name).parent for name in inputs if name.endswith(f"/{MANIFEST}"))
    return [Path(data_root) / name for name in names if (Path(data_root) / name / MANIFEST).is_file()]


def _judge_corpus(corpus: Path, most: int) -> Judged:
    verdicts: dict[str, Verdict] = {}
    with contextlib.suppress(
        ManifestError, OSError
    ):  # it changed since it was cached: a violation of its own
        clips = (clip for clip in read_manifest(corpus) if clip.annotation and clip.caption)
        for clip in itertools.islice(clips, most or None):
            with contextlib.suppress(AnnotationError):  # rejected when it was cached
                verdicts[clip.id] = judge_caption(clip.caption, AudioAnnotation.from_json(clip.annotation))
    judged, not_judged = (
        sum(getattr(v, name) for v in verdicts.values()) for name in ("judged", "not_judged")
    )
    faults = tuple(
        (f"{corpus} clip {name}", fault) for name, verdict in verdicts.items() for fault in verdict.faults
    )
    return Judged(str(corpus), "annotated captions", len(verdicts), 0, judged, not_judged, faults)
