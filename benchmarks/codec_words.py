"""How well a codec's leading streams tell which word is spoken.

    python benchmarks/codec_words.py [--codec=FILE] [--corpus=corpora/encoders] [--streams=1,2,8] [--output=FILE]

A linear probe hears single spoken words of a corpus as codes: how often each code occurs in each third of the word. It
learns from training scenes and is judged on held-out ones, validation and test, with other combinations of events. Rows
"features" and "latent" probe what stands before the quantiser, the branch of meaning and both branches, so that one
sees where words are lost. Prints a Markdown table; `--output` gets the same as JSON, with the codec's fingerprint.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bagpiper_jax import audio
from bagpiper_jax.manifest import Clip, read_manifest
from bagpiper_jax.models.codecs.xcodec import functional, storage
from bagpiper_jax.models.codecs.xcodec.loaded import LoadedXCodec

PARTS, STEPS, DECAY = 3, 400, 1e-3
"""Parts of a word; steps and weight decay of the probe."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", type=Path, default=storage.NANO)
    parser.add_argument("--corpus", type=Path, default=Path("corpora/encoders"))
    parser.add_argument("--streams", default="1,2,8", help="numbers of leading streams")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    results = probe_codec(given.codec, given.corpus, [int(count) for count in given.streams.split(",")])
    if given.output:
        given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


def probe_codec(path: Path, corpus: Path, streams: Sequence[int]) -> dict:
    """Shares of held-out words that each probe tells, and what always saying the most frequent one would reach."""
    parameters, config = storage.load_codec(path)
    codec = LoadedXCodec(parameters, config)
    words = list(spoken_words(corpus))
    if not words:
        raise SystemExit(f"{corpus} has no clips with single spoken words; build gin/corpora/encoders.gin")
    names = sorted({word for _, word, _ in words})
    labels = np.array([names.index(word) for _, word, _ in words])
    train = np.array([clip.split == "train" for clip, _, _ in words])
    clips = {clip.id: clip for clip, _, _ in words}
    waveforms = {name: audio.read(corpus / clip.audio) for name, clip in clips.items()}
    codes = dict(zip(waveforms, codec.encode(list(waveforms.values()), batch_seconds=60.0), strict=True))
    rate = config.sample_rate / config.hop
    spans = [(clip.id, *(np.array(times) * rate)) for clip, _, times in words]
    found = {}
    for count in streams:
        histograms = [_histogram(codes[name][:, :count], config.codebook_size, a, b) for name, a, b in spans]
        found[f"streams 0–{count - 1}" if count > 1 else "stream 0"] = np.stack(histograms)
    vectors = {name: _before_quantiser(parameters, config, each) for name, each in waveforms.items()}
    for index, name in enumerate(("latent", "features")):
        found[name] = np.stack([_by_part(vectors[of][index], a, b) for of, a, b in spans])
    scores = {name: _accuracy(features, labels, train, len(names)) for name, features in found.items()}
    most = np.bincount(labels[train]).argmax()
    return {
        "codec": codec.fingerprint,
        "corpus": corpus.name,
        "words": len(names),
        "learned_from": int(train.sum()),
        "held_out": int((~train).sum()),
        "baseline": float((labels[~train] == most).mean()),
        "accuracy": scores,
    }


def spoken_words(corpus: Path) -> Iterator[tuple[Clip, str, tuple[float, float]]]:
    """Every turn of one word: its clip, the word, and from when to when it lasts, in seconds."""
    for clip in read_manifest(corpus):
        for turn in (clip.annotation or {}).get("turns", ()) if clip.audio else ():
            if len(turn["text"].split()) == 1:
                yield clip, turn["text"].lower(), (turn["start"], turn["end"])


def _parts(frames: int, start: float, end: float) -> Iterator[slice]:
    """The frames of each part of a word; at least one, and none beyond the clip."""
    edges = np.linspace(start, end, PARTS + 1)
    for low, high in zip(edges, edges[1:], strict=False):
        first = min(round(low), frames - 1)
        yield slice(first, max(first + 1, round(high)))


def _by_part(frames: np.ndarray, start: float, end: float) -> np.ndarray:
    """Mean vectors of the parts, side by side."""
    return np.concatenate([frames[part].mean(0) for part in _parts(len(frames), start, end)])


def _histogram(codes: np.ndarray, size: int, start: float, end: float) -> np.ndarray:
    """How often each code of each stream occurs in each part."""
    return _by_part(np.eye(size, dtype=np.float32)[codes].reshape(len(codes), -1), start, end)


def _before_quantiser(parameters, config, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vectors that are quantised and the semantic features, frame by frame."""
    frames = len(waveform) // config.hop
    size = functional.bucket(frames) * config.hop
    padded = np.zeros((1, size), np.float32)
    padded[0, : frames * config.hop] = waveform[: frames * config.hop]
    latent, features = _latent(parameters, config, padded, np.array([frames * config.hop]))
    return np.asarray(latent[0, :frames]), np.asarray(features[0, :frames])


_latent = jax.jit(
    lambda parameters, config, *given: functional.build(parameters, config).latent(*given), static_argnums=1
)


def _accuracy(features: np.ndarray, labels: np.ndarray, train: np.ndarray, classes: int) -> float:
    """The share of held-out labels that a linear probe of standardised features tells."""
    mean, scale = features[train].mean(0), features[train].std(0) + 1e-3
    inputs = ((features - mean) / scale / np.sqrt(features.shape[1])).astype(np.float32)
    weights = _learn(inputs[train], labels[train], classes)
    told = (inputs[~train] @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"])).argmax(1)
    return float((told == labels[~train]).mean())


def _learn(inputs: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, jax.Array]:
    optimizer = optax.adamw(0.1, weight_decay=DECAY)
    start = {"kernel": jnp.zeros((inputs.shape[1], classes)), "bias": jnp.zeros(classes)}

    def loss(weights):
        logits = inputs @ weights["kernel"] + weights["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, _):
        weights, moments = carry
        updates, moments = optimizer.update(jax.grad(loss)(weights), moments, weights)
        return (optax.apply_updates(weights, updates), moments), None

    (weights, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=STEPS)
    return weights


def table(results: dict) -> str:
    """Markdown of the results."""
    rows = [f"| {name} | {100 * share:.1f} % |" for name, share in results["accuracy"].items()]
    head = f"| {results['held_out']} held-out words of {results['words']}, codec {results['codec']} | told |"
    return "\n".join(
        [head, "|---|---|", *rows, f"| the most frequent word | {100 * results['baseline']:.1f} % |"]
    )


if __name__ == "__main__":
    main()
