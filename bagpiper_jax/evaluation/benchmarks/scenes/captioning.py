"""Sound to caption, and caption to sound and back: both directions of pretraining, and the codec between them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from bagpiper_jax.evaluation.benchmarks.generated.sounds import at_hand
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.benchmarks.scenes import hearing, likeness
from bagpiper_jax.evaluation.benchmarks.scenes.corpus import HeldOut, Sizes, read_corpus

CAPTIONS, CYCLE, CODEC = "Audio → caption", "Caption → audio → caption", "Codec"


class Scenes:
    """The benchmark `scenes`. Its files are a corpus of ours, whose annotations the captions are compared with.

    Sounds are captioned by the evaluator `captioner`, such as the run under test itself. At the ceiling it hears the
    clips' copies by the evaluator `codec`: nothing that is made of codes can be heard better. There is no official
    script: a missing reply counts as wrong, and the deaf control takes for every clip what was said of the next.
    """

    name: ClassVar[str] = "scenes"
    version: ClassVar[str] = "1"
    failed: ClassVar[float | None] = None
    unit: ClassVar[str] = "%"
    overlaps: ClassVar[Sequence[str]] = ()

    def __init__(self, files: Path, tools: Tools, sizes: Sizes = Sizes()):
        self._tools, self._sizes = tools, sizes
        self._corpus = read_corpus(files, sizes.split, sizes.clips)
        self._examples = self._corpus.by_id
        self._true: dict[str, hearing.Waveform] = {}
        self._made: dict[str, hearing.Waveform] = {}
        self._copies: dict[str, hearing.Waveform] = {}
        self._heard: dict[str, str] = {}
        self._missing = ""
        self._codec: list[Score] = []

    def items(self) -> Iterable[Item]:
        for example in self._corpus.held_out:
            asked = Asked("", example.path, max_tokens=self._sizes.caption_tokens)
            yield _item("caption", CAPTIONS, example, asked)
        for example in self._corpus.held_out[: self._sizes.sounds]:
            yield _item("sound", CYCLE, example, Asked(str(example.clip.caption), wants="audio"))

    def prepare(self, replies: Sequence[tuple[Item, Reply]]) -> None:
        """Copies the clips by the codec, and has all sounds captioned."""
        self._made = hearing.made(replies)
        if not self._made:
            return
        sounded = self._corpus.held_out[: self._sizes.sounds]
        self._true = hearing.waveforms({example.clip.id: example.path for example in sounded})
        self._copy()
        copies = {_copy_of(id): sound for id, sound in self._copies.items()}
        self._heard, self._missing = hearing.captions(self._tools, self._made | copies)

    def _copy(self) -> None:
        evaluator, _ = at_hand(self._tools, "codec")
        if evaluator is None or not self._true:
            return
        codec, true = evaluator.codec, list(self._true.values())
        codes = codec.encode(true)
        self._copies = dict(zip(self._true, codec.decode(codes), strict=True))
        speaks = [bool(self._examples[id].truth.words) for id in self._true]
        scores = likeness.codec(true, list(self._copies.values()), speaks)
        self._codec = hearing.in_section(CODEC, scores) + likeness.codebooks(codes, max(codec.codebooks))

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        """Fact by fact, whether a caption, or the caption of a sound, tells it."""
        said = reply.text if item.asked.wants == "text" else self._heard.get(item.id)
        return {} if said is None else hearing.facts_told(said, self._examples[item.record["clip"]])

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """The table of captions, of sounds and of the codec."""
        captioned = [each for each in judged if each.item.asked.wants == "text"]
        sounded = [each for each in judged if each.item.asked.wants == "audio"]
        said, training = [_said(each) for each in captioned], self._corpus.training_truth
        found = hearing.scored(CAPTIONS, said, self._of(captioned), training)
        return found + (self._cycle(sounded) + self._codec if sounded else [])

    def _cycle(self, sounded: Sequence[Judged]) -> list[Score]:
        if not self._made:
            return [hearing.nothing(CYCLE, "cycle_kinds_in_order", sounded)]
        examples = self._of(sounded)
        said = [self._heard.get(each.item.id, "") for each in sounded]
        best = [self._heard.get(_copy_of(example.clip.id), "") for example in examples]
        if self._missing:
            scores = [hearing.nothing(CYCLE, "cycle_kinds_in_order", sounded, self._missing)]
        else:
            training = self._corpus.training_truth
            scores = hearing.scored(CYCLE, said, examples, training, "cycle_", best if self._copies else None)
        pairs = [each for each in sounded if each.item.record["clip"] in self._true]
        ids = [each.item.record["clip"] for each in pairs]
        ours = [self._made.get(each.item.id, hearing.SILENCE) for each in pairs]
        copies = [self._copies[id] for id in ids] if self._copies else None
        return scores + hearing.in_section(
            CYCLE, likeness.generated([self._true[id] for id in ids], ours, copies)
        )

    def _of(self, judged: Sequence[Judged]) -> list[HeldOut]:
        return [self._examples[each.item.record["clip"]] for each in judged]


def _item(kind: str, section: str, example: HeldOut, asked: Asked) -> Item:
    clip = example.clip
    record = {"clip": clip.id, "domain": clip.domain, "caption": clip.caption}
    return Item(f"{kind}_{clip.id}", asked, record, {"section": section}, cluster=clip.id)


def _said(judged: Judged) -> str:
    return "" if judged.reply.fault else judged.reply.text


def _copy_of(id: str) -> str:
    return f"copy_{id}"
