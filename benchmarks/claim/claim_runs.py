"""The runs of benchmarks/claim: what is trained, from what, and on how much."""

import dataclasses
from collections.abc import Iterator, Mapping

DIRECTORY = "runs/claim"
STEP_SLOTS = 4 * 384
"""Slots of a step of gin/runs/claim.gin; pretraining's are of the same number."""

SIZES: Mapping[str, Mapping[str, int]] = {
    "small": {"layers": 3, "width": 64, "ffn_width": 192, "heads": 2, "kv_heads": 1},
    "nano": {},
    "large": {"layers": 6, "width": 192, "ffn_width": 576, "heads": 6, "kv_heads": 3},
}
"""Decoders, as they differ from gin/models/nano.gin."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        name: of its directory, without the seed.
        lock: the mixture it learns from.
        steps: optimizer steps of `STEP_SLOTS` slots.
        parent: the run it starts from; "" starts from the tower alone.
        form: of its replies, see claim_forms.py.
        scored: what it is scored on: "captions", "sounds", "questions" or "requests", see claim_scores.py.
        size: of the decoder.
        seed: of initialisation, of the order of examples, and of its parent.
    """

    name: str
    lock: str
    steps: int
    parent: str = ""
    form: str = ""
    scored: tuple[str, ...] = ()
    size: str = "nano"
    seed: int = 0

    @property
    def directory(self) -> str:
        return f"{DIRECTORY}/{self.name}_{self.seed}"

    @property
    def start(self) -> str:
        """The directory whose parameters it starts from."""
        return f"{DIRECTORY}/{self.parent}_{self.seed}" if self.parent else f"{DIRECTORY}/start_{self.size}"

    @property
    def pretrains(self) -> bool:
        return not self.parent


@dataclasses.dataclass(frozen=True)
class Budget:
    """Steps of pretraining and of tuning, seeds, and which experiments are run."""

    pretraining: int
    tuning: int
    longer: int
    seeds: tuple[int, ...]
    experiments: tuple[str, ...]


EXPERIMENTS = ("order", "examples", "compute", "few", "sound", "targets", "unified", "sizes")
WHOLE = Budget(1500, 400, 1600, (0, 1, 2), EXPERIMENTS)
REDUCED = Budget(1200, 400, 1600, (0,), ("order", "sound"))

FORMS = ("answer", "caption_answer", "answer_caption", "foreign_caption_answer", "caption_reasoning_answer")
_WITH_READING = "embedded_pretraining_with_reading"


def runs(budget: Budget, lengths: Mapping[str, float]) -> list[Run]:
    """Every run once, parents first.

    Args:
        lengths: lock → the mean slots of its examples, from which equal examples follow; "share:" and a task of
            `claim_unified` → its share of that mixture's tokens.
    """
    found = {
        run.directory: run
        for seed in budget.seeds
        for experiment in budget.experiments
        for run in _EXPERIMENTS[experiment](budget, lengths, seed)
    }
    return list(found.values())


def _base(budget: Budget, seed: int, size: str = "nano") -> Run:
    return Run(f"base_{size}", _WITH_READING, budget.pretraining, scored=("captions",), size=size, seed=seed)


def _tuned(base: Run, form: str, steps: int, suffix: str = "", few: str = "") -> Run:
    scored = "requests" if form.startswith("request") else "questions"
    name = f"{base.name}_{form}{few}{suffix}"
    return Run(name, f"claim_{form}{few}", steps, base.name, form, (scored,), base.size, base.seed)


def _order(budget: Budget, lengths: Mapping[str, float], seed: int) -> Iterator[Run]:
    yield (base := _base(budget, seed))
    yield from (_tuned(base, form, budget.tuning) for form in FORMS)


def _examples(budget: Budget, lengths: Mapping[str, float], seed: int) -> Iterator[Run]:
    """As many examples as answers alone have in the same steps: longer forms take more of them."""
    yield (base := _base(budget, seed))
    for form in ("caption_answer", "caption_reasoning_answer"):
        steps = round(budget.tuning * lengths[f"claim_{form}"] / lengths["claim_answer"])
        yield _tuned(base, form, steps, "_examples")


def _compute(budget: Budget, lengths: Mapping[str, float], seed: int) -> Iterator[Run]:
    """The same, longer."""
    yield (base := _base(budget, seed))
    for form in ("answer", "caption_answer", "caption_reasoning_answer"):
        yield _tuned(base, form, budget.longer, "_longer")


def _few(budget: Budget, lengths: Mapping[str, float], seed: int) -> Iterator[Run]:
    yield (base := _base(budget, seed))
    yield from (_tuned(base, form, budget.tuning, few="_few") for form in FORMS[:2])


def _sound(budget: Budget, lengths: Mapping[str, float], seed: int) -> Iterator[Run]:
    yield (base := _base(budget, seed))
    yield from (_tuned(base, form, budget.tuning) for form in ("request_audio", "request_caption_audio"))
    steps = round(budget.tuning * lengths["claim_request_caption_audio"] / lengths["claim_request_audio"])
    yield _tuned(base, "request_caption_audio", steps, "_examples")


def _targets(budget: Budget, lengths: Mapping[str, float], seed: int) -> Iterator[Run]:
    """Captions against labels as what is learned first; then answers alone, from both."""
    yield (captions := _base(budget, seed))
    labels = dataclasses.replace(
        captions, name="base_labels", lock="claim_pretraining_with_labels", scored=()
    )
    yield labels
    for base in (captions, labels):
        yield _tuned(base, "answer", budget.tuning)
        yield _tuned(base, "answer", budget.tuning, few="_few")


def _unified(budget: Budget, lengths: Mapping[str, float], seed: int) -> Iterator[Run]:
    """One model of three tasks; three models of one, each with the whole budget, or with its task's share of it."""
    tasks = {
        "captions": "embedded_audio_to_caption",
        "sounds": "embedded_caption_to_audio",
        "questions": "claim_caption_answer",
    }
    form = "caption_answer"
    yield Run("unified", "claim_unified", budget.pretraining, form=form, scored=tuple(tasks), seed=seed)
    for scored, lock in tasks.items():
        share = round(budget.pretraining * lengths[f"share:{lock}"])
        for name, steps in (("whole", budget.pretraining), ("share", share)):
            yield Run(f"single_{scored}_{name}", lock, steps, form=form, scored=(scored,), seed=seed)


def _sizes(budget: Budget, lengths: Mapping[str, float], seed: int) -> Iterator[Run]:
    for size in SIZES:
        yield (base := _base(budget, seed, size))
        yield from (_tuned(base, form, budget.tuning) for form in FORMS[:2])


_EXPERIMENTS = {
    "order": _order, "examples": _examples, "compute": _compute, "few": _few, "sound": _sound,
    "targets": _targets, "unified": _unified, "sizes": _sizes,
}  # fmt: skip
