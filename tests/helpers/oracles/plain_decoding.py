"""Decoding by the letter of docs/reference.md, Segment loop: one whole forward pass per token, no cache, no batch."""

import dataclasses
import functools

import jax
import numpy as np
from flax import nnx

from bagpiper_jax import vocabulary as v
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.prompts import collate
from bagpiper_jax.dialogue import Message, render_prompt
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.models.bagpiper import Bagpiper
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig, DecoderConfig
from bagpiper_jax.vocabulary import Vocabulary

CONFIG = BagpiperConfig(
    DecoderConfig(2, 32, 64, 4, 2, 8, dtype="float32", init_std=0.3, remat="none"),
    AudioTowerConfig(128, 1, 16, 2, 32, 4, 24, dtype="float32", remat="none"),
    Vocabulary(text_size=20, codebook_size=6, num_streams=4),
)
GREEDY_TEXT = SamplingConfig(0, 0, 1, 1, 7)
GREEDY_AUDIO = SamplingConfig(0, 0, 1, 5, 9)


def random_model(config: BagpiperConfig = CONFIG) -> Bagpiper:
    model = Bagpiper(config, rngs=nnx.Rngs(0))
    model.stream_emb.set_value(jax.random.normal(jax.random.key(1), model.stream_emb.shape))
    return model


def prompts():
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 20, n) for n in (3, 11, 1)]
    found = [render_prompt([Message("user", "text", text)], CONFIG.vocabulary) for text in texts]
    for seconds in (0.4, 1.3):
        wave = rng.normal(size=int(16000 * seconds)).astype(np.float32)
        spoken = [Message("user", "audio", wave), Message("user", "text", texts[0])]
        found.append(render_prompt(spoken, CONFIG.vocabulary))
    return found


@functools.cache
def forward(model):
    graph, parameters = nnx.split(model)
    return jax.jit(lambda batch: nnx.merge(graph, parameters).hidden(batch))


def hidden_of(model, prompt, emitted, null=False):
    """Last hidden state of the whole sequence in one uncached forward pass."""
    tokens = np.concatenate([prompt.tokens, np.asarray(emitted, np.int32).reshape(-1, 4)])
    extended = dataclasses.replace(prompt, tokens=tokens, audio=() if null else prompt.audio)
    return np.asarray(forward(model)(collate([extended], BatchShape(1, 80, 2), CONFIG)))[0, len(tokens) - 1]


def plain_decode(model, prompt, modalities, guidance, text=GREEDY_TEXT, audio=GREEDY_AUDIO, begun=()):
    """The rows of each segment, greedily, the first text from the ids of `begun` on: full logits and explicit masks.

    `guidance` is that of audio; that of text is `text.guidance`.
    """
    vocabulary, emitted, segments = CONFIG.vocabulary, [], []
    for modality in modalities:
        limits, scale = (text, text.guidance) if modality == "text" else (audio, guidance)
        emitted.append([v.ASSISTANT, 0, 0, 0])
        fixed = len(emitted)
        emitted.append([v.TEXT if modality == "text" else v.AUDIO, 0, 0, 0])
        rows = []
        for i in range(limits.max_steps):
            hidden = hidden_of(model, prompt, emitted)
            null = hidden
            if scale > 1:
                zeros = dataclasses.replace(prompt, tokens=np.zeros_like(prompt.tokens))
                null = hidden_of(model, zeros, [[0] * 4] * fixed + emitted[fixed:], null=True)
            row = [0] * 4
            for stream in range(4 if modality == "audio" else 1):
                offset = np.asarray(model.stream_emb[...])[stream] * (stream > 0)
                head = np.asarray(model.lm_head[...])
                logits = scale * (head @ (hidden + offset)) + (1 - scale) * (head @ (null + offset))
                permitted = np.zeros(vocabulary.size, bool)
                if modality == "text":
                    permitted[vocabulary.text_start : vocabulary.codec_start] = True
                else:
                    start = vocabulary.stream_pads()[stream]
                    permitted[start : start + vocabulary.stream_size] = True
                if stream == 0 and i >= limits.min_steps:
                    permitted[[v.EOS, v.EOT]] = True
                row[stream] = int(np.argmax(np.where(permitted, logits, -np.inf)))
            if modality == "text" and not segments and i < len(begun):
                row[0] = begun[i] + vocabulary.text_start
            ended = row[0] in (v.EOS, v.EOT)
            row = [row[0], 0, 0, 0] if ended else row
            emitted.append(row)
            rows += [] if ended else [row]
            if ended:
                break
        else:
            emitted[-1] = [emitted[-1][0], 0, 0, 0]
        segments.append(np.array(rows, np.int32).reshape(-1, 4))
    return segments
