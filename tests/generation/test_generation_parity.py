"""Generation token for token against a torch loop on transformers' Qwen3 and its cache.

See docs/reference.md, Segment loop and Guidance.

Where ids are drawn, both sides take the same noise, so that equal ids mean equal logits.
"""

import jax
import numpy as np
import pytest
import tiny_models

from bagpiper_jax import vocabulary as v
from bagpiper_jax.dialogue import Message, render_prompt
from bagpiper_jax.generation.batch import generate
from bagpiper_jax.generation.sampling import FEW, SamplingConfig
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig
from bagpiper_jax.vocabulary import Vocabulary

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch_bagpiper import TorchBagpiper  # noqa: E402

VOCABULARY = Vocabulary(text_size=40, codebook_size=16)
TOWER = AudioTowerConfig(128, 1, 16, 2, 24, 4, 12, dtype="float32", remat="none")
MODEL = BagpiperConfig(tiny_models.DECODER, TOWER, VOCABULARY)
STREAMS = VOCABULARY.num_streams


def prompts() -> list:
    random = np.random.default_rng(0)
    text = [Message("user", "text", random.integers(0, 40, 5))]
    wave = (0.1 * random.normal(size=21_000)).astype(np.float32)
    return [render_prompt(m, VOCABULARY) for m in (text, [Message("user", "audio", wave), *text])]


@pytest.fixture(scope="module")
def sides():
    model = tiny_models.random_model(MODEL, 1)
    return model, TorchBagpiper(MODEL, tiny_models.parameters(model))


class Decoding:
    """One prompt in torch: the conditional cache, and a null cache while a segment is guided."""

    def __init__(self, model: TorchBagpiper, prompt, seed: int):
        self.model, self.key = model, jax.random.key(seed)
        self.cache, self.null = transformers.DynamicCache(), None
        model.hidden(model.inputs(prompt), self.cache)

    def feed(self, row, guidance: float = 1.0):
        """Logits [S, V] behind one more token."""
        x = self.model.embed(np.asarray(row)[None])
        logits = self._logits(x, self.cache)
        if self.null is None:
            return logits
        return guidance * logits + (1 - guidance) * self._logits(x, self.null)

    def _logits(self, x, cache):
        hidden = self.model.hidden(x, cache)[-1]
        return torch.stack([self.model.logits(hidden, stream) for stream in range(STREAMS)])

    def segment(self, index: int, modality: str, limits: SamplingConfig):
        """Rows, and the terminator or 0."""
        if limits.guidance > 1:
            self.null = transformers.DynamicCache()
            zeros = np.zeros((self.cache.get_seq_length(), STREAMS))
            self.model.hidden(self.model.embed(zeros), self.null)
        key, row, rows, terminator = jax.random.fold_in(self.key, index), special(MARKERS[modality]), [], 0
        while len(rows) < limits.max_steps and not terminator:
            logits = self.feed(row, limits.guidance)
            logits[~permitted(modality, len(rows) >= limits.min_steps)] = -torch.inf
            drawn = draw(logits, modality, limits, jax.random.fold_in(key, len(rows)))
            terminator = drawn[0] if drawn[0] in (v.EOS, v.EOT) else 0
            row = special(drawn[0]) if terminator else drawn
            rows += [] if terminator else [row]
        self.feed(special(row[0]), limits.guidance)
        self.null = None
        return np.array(rows).reshape(-1, STREAMS), terminator


MARKERS = {"text": v.TEXT, "audio": v.AUDIO}


def special(token: int) -> list[int]:
    return [token] + [0] * (STREAMS - 1)


def permitted(modality: str, may_end: bool):
    """[S, V]: what a segment may emit."""
    allowed = torch.zeros(STREAMS, VOCABULARY.size, dtype=torch.bool)
    if modality == "text":
        allowed[0, VOCABULARY.text_start : VOCABULARY.codec_start] = True
        allowed[1:, 0] = True
    else:
        for stream, start in enumerate(VOCABULARY.stream_pads()):
            allowed[stream, start : start + VOCABULARY.stream_size] = True
    allowed[0, [v.EOS, v.EOT]] = may_end
    return allowed


def draw(logits, modality: str, limits: SamplingConfig, key) -> list[int]:
    """Top-k first, then softmax(v / T), here as the largest of v / T + Gumbel noise."""
    if limits.temperature == 0:
        return logits.argmax(-1).tolist()
    streams = 1 if modality == "text" else STREAMS
    values, ids = logits[:streams].topk(limits.top_k, dim=-1)
    keys = [jax.random.fold_in(key, stream) for stream in range(streams)]
    noise = torch.tensor(np.stack([jax.random.gumbel(key, (FEW,))[: limits.top_k] for key in keys]))
    winner = (values / limits.temperature + noise).argmax(-1, keepdim=True)
    drawn = ids.gather(-1, winner)[:, 0].tolist()
    return drawn + [0] * (STREAMS - streams)


@torch.no_grad()
def decode(model: TorchBagpiper, prompt, config: LoopConfig) -> list[tuple]:
    """(modality, rows, terminator) of every segment."""
    decoding, found = Decoding(model, prompt, config.seed), []
    for index in range(config.max_segments):
        scores = decoding.feed(special(v.ASSISTANT))[0, [v.TEXT, v.AUDIO]]
        chosen = ("text", "audio")[int(scores.argmax())]
        modality = config.modalities[index] if index < len(config.modalities) else chosen
        rows, terminator = decoding.segment(index, modality, getattr(config, modality))
        found.append((modality, rows, terminator))
        if terminator != v.EOT and index + 1 >= len(config.modalities):
            break
    return found


CASES = {
    "greedy text": LoopConfig(SamplingConfig(0, 0, 1, 6, 12), modalities=("text",)),
    "greedy audio": LoopConfig(audio=SamplingConfig(0, 0, 1, 4, 12), modalities=("audio",)),
    "greedy guided": LoopConfig(audio=SamplingConfig(0, 0, 3, 4, 12), modalities=("audio",)),
    "sampled, text hands over to guided audio": LoopConfig(
        SamplingConfig(0.6, 20, 1, 1, 10), SamplingConfig(0.8, 10, 3, 4, 14), ("text", "audio")
    ),
    "sampled, the model chooses": LoopConfig(
        SamplingConfig(1.0, 20, 1, 2, 8), SamplingConfig(1.0, 10, 1, 2, 8), max_segments=3, seed=7
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_token_equals_torchs(sides, case):
    model, theirs = sides
    for prompt, segments in zip(prompts(), generate(model, prompts(), CASES[case]), strict=True):
        expected = decode(theirs, prompt, CASES[case])
        assert [s.modality for s in segments] == [modality for modality, _, _ in expected]
        for segment, (_, rows, terminator) in zip(segments, expected, strict=True):
            np.testing.assert_array_equal(segment.rows, rows)
            assert segment.terminator == terminator
            assert len(rows) > 1
