"""Captions to sound and back: what a captioner says of the sound, beside the caption that was asked for.

Its files are captions as in `text_to_audio`; recordings are not needed. The captioner is an evaluator, such as the run
under test itself, which then judges its own sound; scores are named after it.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bagpiper_jax.evaluation.benchmarks.generated import captioned, sounds
from bagpiper_jax.evaluation.benchmarks.protocol import Asked, Item, Judged, Reply, Score, Tools, Verdict
from bagpiper_jax.evaluation.metrics import caption_agreement


class Cycle:
    """The benchmark `cycle`. Its verdicts are shares of the caption that come back; there is no official script."""

    name, version, failed = "cycle", "1", 0.0
    overlaps = ("audiocaps", "musiccaps")

    def __init__(self, files: Path, tools: Tools):
        self._captions, self._tools = captioned.read(files), tools

    def items(self) -> Iterable[Item]:
        for each in self._captions:
            yield Item(each.id, Asked(each.text, wants="audio"), {"caption": each.text}, cluster=each.clip)

    def verdicts(self, item: Item, reply: Reply) -> Mapping[str, Verdict]:
        """Likeness of the texts, and the events and spoken words that come back, where the caption tells of them."""
        captioner = self._tools.evaluator("captioner")
        with sounds.audible(reply) as path:
            said = captioner.caption(path)
        wanted = item.record["caption"]
        shares = {"text": caption_agreement.similarity(wanted, said), **caption_agreement.facts(wanted, said)}
        return {f"{kind}_{captioner.name}": Verdict(value, said) for kind, value in shares.items()}

    def recorded(self, path: Path) -> Mapping[str, Reply]:
        """The sounds in a folder, `<id>.wav` each. Raises BenchmarkError."""
        return sounds.recorded(path)

    def official(self, judged: Sequence[Judged]) -> list[Score]:
        """Means over the items that have a verdict; what cannot be judged, or tells of no such fact, is left out."""
        readings = dict.fromkeys(name for each in judged for name in each.verdicts)
        return [sounds.mean(judged, reading, "%") for reading in readings]
