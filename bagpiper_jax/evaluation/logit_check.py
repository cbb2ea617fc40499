"""One prompt through our model and, with the other checkpoint, through PyTorch's modules: how far the logits agree."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from bagpiper_jax import audio
from bagpiper_jax.data.prompts import collate, fitting_shape
from bagpiper_jax.dialogue import Message, RenderConfig, Rendered, render
from bagpiper_jax.generation.config import WeightsConfig
from bagpiper_jax.generation.weights import load_model
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.interop.formats.tensors import Tensor
from bagpiper_jax.interop.hub import config as hub_config
from bagpiper_jax.interop.hub import sizes as hub_sizes
from bagpiper_jax.interop.tables import espnet, qwen3
from bagpiper_jax.models.config_json import load_model_config
from bagpiper_jax.models.configs import BagpiperConfig
from bagpiper_jax.text import load_tokenizer
from bagpiper_jax.training import companions

STREAM_EMBEDDING, ADAPTOR = "stream_emb.weight", "adaptor.continuous_audio."
_CODEC_FRAMES = 8


@dataclasses.dataclass(frozen=True)
class LogitCheckConfig:
    """What to compare.

    Attributes:
        checkpoint: ours: a run, one of its checkpoints, or an import.
        other: theirs: ESPnet's native file, a vLLM directory, or a transformers directory of a Qwen3.
        prompt: text of the user.
        audio: a clip of the user before it; ignored by a Qwen3, which has no ears.
        tokenizer: instead of the one that the checkpoint names.
        dtype: that both sides compute in. float32 takes 36 GB of memory at 8B, one side after the other.
        top_k: how many of the likeliest ids must be the same.
        tolerance: largest difference of logits, relative to the largest logit, that passes.
        base: the checkpoint that an adapter changes, where its own directory names one that is elsewhere by now.
    """

    checkpoint: str
    other: str
    prompt: str = "What do you hear?"
    audio: str = ""
    tokenizer: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    top_k: int = 20
    tolerance: float = 1e-4
    base: str = ""


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far two sets of logits agree.

    Attributes:
        max_error: largest absolute difference.
        relative_error: the same divided by the largest logit.
        kl: mean divergence of our distribution from theirs, in nats.
        top_1, top_k: share of slots with the same likeliest id, of common ids among the k likeliest.
    """

    max_error: float
    relative_error: float
    kl: float
    top_1: float
    top_k: float


def logit_check(config: LogitCheckConfig) -> dict[str, Agreement]:
    """Agreement of stream 0 and, if the other checkpoint has them, of the codec streams.

    The prompt is followed by an answer of a few random codec frames, so that every stream is an input too.

    Raises:
        InterchangeError: the other checkpoint is broken, or no decoder of these sizes.
        CheckpointError, ModelConfigError, TokenizerError, AudioError: what is read is missing or damaged.
    """
    model, extras = load_model_config(config.checkpoint)
    sized = dataclasses.replace(
        model,
        decoder=dataclasses.replace(model.decoder, dtype=config.dtype),
        tower=dataclasses.replace(model.tower, dtype=config.dtype),
    )
    tensors = open_tensors(config.other)
    if qwen3.EMBEDDING not in tensors:
        raise InterchangeError(f"{config.other} holds no decoder ({qwen3.EMBEDDING})")
    kind = "qwen3" if STREAM_EMBEDDING not in tensors else "espnet"
    hub_sizes.check(kind, config.other, model, codec=None)
    sequence = _sequence(config, model, extras, tensors)
    ours = our_logits(config.checkpoint, sized, sequence, WeightsConfig(base=config.base))
    theirs = their_logits(tensors, sized, sequence)
    rows = theirs["stream 0"].shape[-1]
    if rows < model.vocabulary.size:  # a Qwen3 knows text alone
        start = model.vocabulary.text_start
        ours["stream 0"] = ours["stream 0"][:, start : start + rows]
    return {name: agreement(ours[name], theirs[name], config.top_k) for name in theirs}


def agreement(ours: Float[np.ndarray, "T V"], theirs: Float[np.ndarray, "T V"], top_k: int) -> Agreement:
    difference = np.abs(ours - theirs).max()
    p, q = _log_softmax(theirs), _log_softmax(ours)
    best = [np.argsort(-x, axis=-1)[:, :top_k] for x in (ours, theirs)]
    common = [len(set(a) & set(b)) / len(a) for a, b in zip(*best, strict=True)]
    return Agreement(
        max_error=float(difference),
        relative_error=float(difference / np.abs(theirs).max()),
        kl=float((np.exp(p) * (p - q)).sum(-1).mean()),
        top_1=float((best[0][:, 0] == best[1][:, 0]).mean()),
        top_k=float(np.mean(common)),
    )


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64) - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _sequence(config: LogitCheckConfig, model: BagpiperConfig, extras: dict, tensors: Mapping) -> Rendered:
    vocabulary = model.vocabulary
    kept = companions.find(config.checkpoint, extras, "tokenizer")
    tokenizer = load_tokenizer(config.tokenizer or kept or "byte")
    text = np.array(tokenizer.encode(config.prompt), np.int32)
    if tensors[qwen3.EMBEDDING].shape[0] < vocabulary.size:
        rows = np.zeros((len(text), vocabulary.num_streams), np.int32)
        rows[:, 0] = vocabulary.text_to_ids(text)
        return Rendered(rows, np.zeros(rows.shape, np.float32), (), ())
    whole = STREAM_EMBEDDING in tensors
    clip = [Message("user", "audio", audio.read(config.audio))] if config.audio and whole else []
    codes = np.random.default_rng(0).integers(
        0, vocabulary.codebook_size, (_CODEC_FRAMES, vocabulary.num_streams)
    )
    answer = [Message("assistant", "audio", codes)] if whole else []
    weights = RenderConfig(stream_weights=(1.0,) * vocabulary.num_streams)
    return render([*clip, Message("user", "text", text), *answer], vocabulary, weights)


def our_logits(
    checkpoint: str | os.PathLike,
    config: BagpiperConfig,
    sequence: Rendered,
    weights: WeightsConfig = WeightsConfig(),
) -> dict[str, np.ndarray]:
    """Float32 logits [T, V] of stream 0 and [T, codec ids] of the others, by name."""
    model = load_model(checkpoint, config, weights)
    batch = collate([sequence], fitting_shape([sequence], 1, config.tower.mel_bins), config)
    streams = range(config.vocabulary.num_streams)

    @nnx.jit
    def compute(model):
        hidden = model.hidden(batch)[0, : len(sequence)]
        return [model.logits(hidden, stream) for stream in streams]

    with jax.default_matmul_precision("highest"):
        return {f"stream {s}": np.asarray(x) for s, x in zip(streams, compute(model), strict=True)}


def their_logits(
    tensors: Mapping[str, Tensor], config: BagpiperConfig, sequence: Rendered
) -> dict[str, np.ndarray]:
    """The same through transformers' Qwen3 and Qwen3-Omni tower.

    See docs/reference.md, Embedding and head, Log-mel features and Audio tower.
    """
    import torch

    with torch.no_grad():
        return _their_logits(torch, tensors, config, sequence)


def _their_logits(torch, tensors, config: BagpiperConfig, sequence: Rendered) -> dict[str, np.ndarray]:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    rows = tensors[qwen3.EMBEDDING].shape[0]
    settings = hub_config.decoder(config.decoder, rows, config.decoder.dtype)
    dtype = getattr(torch, config.decoder.dtype)
    decoder = _filled(torch, Qwen3ForCausalLM(Qwen3Config(**settings)), tensors).to(dtype)
    shift = 0 if rows == config.vocabulary.size else config.vocabulary.text_start
    tokens = torch.from_numpy(sequence.tokens - shift * (np.arange(sequence.tokens.shape[1]) == 0)).long()
    table = decoder.get_input_embeddings().weight
    x = table[tokens[:, 0]]
    for stream in range(1, tokens.shape[1]):
        x = x + torch.where(tokens[:, stream, None] == 0, 0, table[tokens[:, stream].clamp(max=rows - 1)])
    for span in sequence.audio:
        x[span.start : span.start + span.num_tokens] = _features(torch, tensors, config, span.samples).to(
            dtype
        )
    hidden = decoder.model(inputs_embeds=x[None].to(dtype)).last_hidden_state[0]
    head = decoder.lm_head.weight
    found = {"stream 0": hidden @ head.T}
    if STREAM_EMBEDDING in tensors:
        codec = head[config.vocabulary.codec_start :]
        offset = _tensor(torch, tensors[STREAM_EMBEDDING]).to(dtype)
        found |= {f"stream {s}": (hidden + offset[s]) @ codec.T for s in range(1, len(offset))}
    return {name: logits.float().numpy() for name, logits in found.items()}


def _features(torch, tensors, config: BagpiperConfig, samples: np.ndarray):
    """A clip through Whisper's front end as training normalises it, the tower, and the adaptor."""
    from transformers import WhisperFeatureExtractor
    from transformers.models.qwen3_omni_moe import configuration_qwen3_omni_moe as configuration
    from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as modeling

    extractor = WhisperFeatureExtractor(feature_size=config.tower.mel_bins)
    mel = extractor(
        samples, sampling_rate=audio.SAMPLE_RATE, do_normalize=True, padding="longest", truncation=False,
        return_tensors="pt",
    )["input_features"][0]  # fmt: skip
    settings = configuration.Qwen3OmniMoeAudioEncoderConfig(
        **hub_config.tower(config.tower, config.tower.dtype)
    )
    own = {
        n.removeprefix(espnet.TOWER_PREFIX): t
        for n, t in tensors.items()
        if n.startswith(espnet.TOWER_PREFIX)
    }
    dtype = getattr(torch, config.tower.dtype)
    tower = _filled(torch, modeling.Qwen3OmniMoeAudioEncoder(settings), own).to(dtype)
    features = tower(mel.to(dtype), feature_lens=torch.tensor([mel.shape[1]])).last_hidden_state
    weight, bias = (_tensor(torch, tensors[ADAPTOR + name]).to(dtype) for name in ("weight", "bias"))
    return features @ weight.T + bias


def _filled(torch, module, tensors: Mapping[str, Tensor]):
    """The module with its parameters read one by one; a tied head takes the embedding."""
    for name, parameter in module.named_parameters():
        source = tensors.get(name) or (tensors.get(qwen3.EMBEDDING) if name == qwen3.HEAD else None)
        if source is None or source.shape != tuple(parameter.shape):
            found = "missing" if source is None else list(source.shape)
            raise InterchangeError(f"{name} is {found}, should be {list(parameter.shape)}")
        parameter.copy_(_tensor(torch, source))
    return module.eval()


def _tensor(torch, source: Tensor):
    return torch.from_numpy(source.read().astype(np.float32))
