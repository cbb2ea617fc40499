"""What answering takes of chips at least: bytes that each must read, FLOPs of all, and the seconds that follow.

A bound, as for training: peaks as published, all that can run side by side hidden, and nothing counted but what the
engine cannot do without. So it is never faster.
"""

import dataclasses
import math
from typing import Any

from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.pool import page_bytes, pages_of
from bagpiper_jax.generation.sampling import Heads
from bagpiper_jax.models.codecs.xcodec.acoustic import context_frames
from bagpiper_jax.models.configs import BagpiperConfig, CodecConfig
from bagpiper_jax.runs.chips import Chip
from bagpiper_jax.sizing.collectives import Traffic
from bagpiper_jax.sizing.memory import bytes_per_chip
from bagpiper_jax.sizing.roofline import Roofline
from bagpiper_jax.training.flops import decoder_weights

FRAMES_PER_SECOND = CodecConfig().sample_rate / CodecConfig().hop
_OPENING = 1
"""Steps before the first row of audio is drawn: the role is fed, then the marker, behind which the row comes."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What is asked of an engine, all requests alike.

    Attributes:
        prompt: slots of a request's prompt.
        text: rows of text before the audio; 0 where the caption is given.
        audio: rows of audio.
        guided: the audio has an unconditional branch, which has rows of its own in every step.
    """

    prompt: int
    text: int
    audio: int
    guided: bool

    @property
    def slots(self) -> int:
        """Slots of a request that ends, roles and markers included."""
        return self.prompt + self.text + self.audio + 2 * (1 + bool(self.text))

    @property
    def branches(self) -> float:
        """Rows of a step that a request has, the rows of its text and of its audio together."""
        return 1 + self.guided * self.audio / (self.text + self.audio)


@dataclasses.dataclass(frozen=True)
class Held:
    """Bytes that one chip holds.

    Attributes:
        layers: matrices and norms of the decoder's layers; a step reads all of them.
        others: embedding, head, audio tower, of which a step reads next to nothing.
        text_head, audio_head: the rows of the head that steps with text, and with audio, multiply.
        page: one page of keys and values, of all layers.
    """

    layers: int
    others: int
    text_head: int
    audio_head: int
    page: int

    @property
    def fixed(self) -> int:
        """All but the pages."""
        return self.layers + self.others + self.text_head + self.audio_head


def held(
    weights: dict[str, Any], heads: Heads, model: BagpiperConfig, engine: EngineConfig, mesh: Mesh
) -> Held:
    """What each chip of a mesh holds.

    Args:
        weights: abstract parameters by path, see `training.weights.abstract_weights`.
        heads: abstract as well.
    """
    layers = {name: x for name, x in weights.items() if name.startswith("decoder/layers/")}
    return Held(
        layers=bytes_per_chip(layers),
        others=bytes_per_chip(weights) - bytes_per_chip(layers),
        text_head=bytes_per_chip(heads.text),
        audio_head=bytes_per_chip(heads.audio),
        page=page_bytes(model.decoder, engine.page, mesh),
    )


@dataclasses.dataclass(frozen=True)
class Decoding:
    """A model on a mesh of chips, answering requests that are all alike.

    Attributes:
        sent: what one chip sends the others in a step of all rows, as far as a compiler has told.
    """

    model: BagpiperConfig
    engine: EngineConfig
    work: Work
    held: Held
    mesh: Mesh
    chip: Chip
    sent: Traffic = Traffic({}, {}, {})

    def step_flops(self, requests: float) -> float:
        """FLOPs of a step of so many requests in the midst of their replies, over all chips."""
        decoder, vocabulary, work = self.model.decoder, self.model.vocabulary, self.work
        ids = vocabulary.num_streams * vocabulary.stream_size + (vocabulary.text_size if work.text else 0)
        row = 2 * decoder_weights(decoder) + self._scores(self.read_slots)
        return requests * (work.branches * row + 2 * decoder.width * ids)

    @property
    def read_slots(self) -> float:
        """Slots that a row of a reply reads, the first rows and the last together."""
        return self.work.prompt + (self.work.text + self.work.audio) / 2

    def _scores(self, slots: float) -> float:
        decoder = self.model.decoder
        return 4 * slots * decoder.layers * decoder.heads * decoder.head_width

    def step_bytes(self, requests: float) -> float:
        """Bytes that one chip reads in such a step; weights that are gathered are written and read besides."""
        held, work = self.held, self.work
        rows = work.branches * requests / parallel.shards(self.mesh, "batch")
        keys = rows * self.read_slots * held.page / self.engine.page
        sent = self._sent(requests)
        gathered = sent.ici.get("all-gather", 0) + sent.dcn.get("all-gather", 0)
        return held.layers + held.audio_head + (held.text_head if work.text else 0) + keys + 2 * gathered

    def _sent(self, requests: float) -> Traffic:
        """Up to a fourth of the rows, smaller programs run, and send less: how much, no compiler was asked."""
        return self.sent if 4 * requests > self.engine.rows else Traffic({}, {}, {})

    def step(self, requests: float) -> Roofline:
        """Seconds that each resource needs for a step of so many requests."""
        sent = self._sent(requests)
        between = sum(sent.dcn.values())
        return Roofline(
            compute=self.step_flops(requests) / (self.mesh.size * self.chip.flops),
            hbm=self.step_bytes(requests) / self.chip.hbm_bandwidth,
            ici=sum(sent.ici.values()) / self.chip.ici_bandwidth,
            dcn=between / self.chip.dcn_bandwidth if between and self.chip.dcn_bandwidth else 0.0,
        )

    @property
    def chunks(self) -> int:
        """Calls in which a prompt is fed."""
        return math.ceil(self.work.prompt / self.engine.chunk)

    @property
    def prefill(self) -> float:
        """Seconds that a prompt takes. Only the chips that divide a row share its work."""
        slots = self.chunks * self.engine.chunk
        flops = slots * (2 * decoder_weights(self.model.decoder) + self._scores(self.work.prompt / 2))
        together = parallel.shards(self.mesh, "heads")
        return max(
            flops / (together * self.chip.flops),
            self.chunks * self.held.layers / self.chip.hbm_bandwidth,
        )

    def first_audio(self, requests: float) -> float:
        """Seconds from a request, its caption given, to its first sound, while as many others are answered.

        The engine hands out rows after whole calls of its steps, and between the chunks of a prompt it advances the
        others. What the codec takes to decode comes on top.
        """
        rows = 1 + (self.model.vocabulary.num_streams - 1) + context_frames(CodecConfig().strides)
        calls = math.ceil((_OPENING + rows) / self.engine.steps)
        between = self.chunks - 1 if requests > 1 else 0
        return self.prefill + (calls + between) * self.engine.steps * self.step(requests).step

    @property
    def audio_seconds(self) -> float:
        """Seconds of sound that a request gives: the delay of the streams takes a few rows."""
        return max(self.work.audio - (self.model.vocabulary.num_streams - 1), 0) / FRAMES_PER_SECOND

    def request_seconds(self, requests: float) -> float:
        """Seconds of all chips that a request takes, while so many are answered at once."""
        return self.prefill + (self.work.text + self.work.audio) * self.step(requests).step / requests


def most_requests(pages: int, work: Work, engine: EngineConfig) -> int:
    """How many requests a pool of so many pages, the one of waste among them, holds when all are at their longest."""
    own = pages_of(work.slots + engine.steps, engine.page)
    if not work.guided:
        return max(pages - 1, 0) // own
    # Up to the marker the unconditional branch is one for all. Of a last page that is not whole there each has a copy,
    # and the page itself is given up when others run out.
    shared = (work.slots - work.audio - 1) // engine.page
    return max(pages - 1 - shared, 0) // (2 * own - shared)
