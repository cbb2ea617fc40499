"""Loss and the gradient of every parameter, against torch on transformers' own modules, one document at a time.

The documents are packed and their logits never exist whole on our side; on torch's side each stands alone.
"""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_models
from training_helpers import CONFIG

from bagpiper_jax.audio import log_mel
from bagpiper_jax.batch import BatchShape, empty_batch
from bagpiper_jax.data.placing import RowWriter
from bagpiper_jax.dialogue import Message, RenderConfig, drop_condition, render
from bagpiper_jax.interop.tables import qwen3
from bagpiper_jax.interop.tables import tower as tower_names
from bagpiper_jax.interop.tables.grammar import to_theirs
from bagpiper_jax.models.configs import AudioTowerConfig, BagpiperConfig
from bagpiper_jax.training.losses import LossConfig
from bagpiper_jax.training.objectives.next_token import next_token
from bagpiper_jax.vocabulary import Vocabulary

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch_bagpiper import TorchBagpiper  # noqa: E402

VOCABULARY = Vocabulary(text_size=40, codebook_size=16)
TOWER = AudioTowerConfig(128, 2, 16, 2, 24, 4, 12, dtype="float32", remat="none")
MODEL = BagpiperConfig(tiny_models.DECODER, TOWER, VOCABULARY)
Z_LOSS = 1e-3


def documents(seed: int, released: bool) -> list:
    """One of every kind that training renders, and two that lost their condition."""
    random = np.random.default_rng(seed)

    def text(count):  # with a "!", text id 0
        return np.append(random.integers(0, 40, count), 0)

    wave = (0.1 * random.normal(size=19_000)).astype(np.float32)
    hears = [Message("user", "audio", wave), Message("user", "text", text(4))]
    codes, more = random.integers(0, 16, (9, 8)), random.integers(0, 16, (5, 8))
    says = [Message("assistant", "text", text(6)), Message("assistant", "audio", codes)]
    tail = random.integers(0, 16, (7, 8)) if released else None
    answers = [Message("user", "text", text(3)), Message("assistant", "audio", more, 1.0, tail)]
    config = RenderConfig(stream_weights=(1.0,) * 7 + (0.0,), released_bang_is_pad=released)
    understanding, generation, speech, document = (
        render(messages, VOCABULARY, config)
        for messages in ([*hears, says[0]], [*hears, *says], answers, [says[0]])
    )
    return [
        understanding,
        generation,
        speech,
        document,
        drop_condition(generation, 3),
        drop_condition(speech, 1),
    ]


def batch_of(sequences: list):
    """Two rows, three documents each."""
    batch = empty_batch(2, BatchShape(2, 160, 6), 8)
    for row in range(2):
        writer = RowWriter(batch, row, TOWER.window_chunks)
        for sequence in sequences[3 * row : 3 * row + 3]:
            writer.place(sequence, len(sequence), 0, [log_mel(span.samples) for span in sequence.audio])
    return batch


def torch_loss(model: TorchBagpiper, sequences: list) -> tuple:
    """docs/reference.md, Loss by the letter: (sum, frames)."""
    weight = torch.ones(VOCABULARY.size)
    weight[VOCABULARY.codec_start :] = 0.125
    total, frames = torch.zeros(()), 0
    for sequence in sequences:
        hidden = model.hidden(model.inputs(sequence))[:-1]
        mask = torch.tensor(sequence.loss_weights[1:] != 0)
        frames += int(mask[:, 0].sum())
        for stream in range(8):
            target = torch.tensor(sequence.tokens[1:, stream].astype(np.int64))
            first = VOCABULARY.codec_start if stream else 0
            kept = mask[:, stream] & (target >= first) & (target != 0)
            if not kept.any():
                continue
            logits, wanted = model.logits(hidden[kept], stream)[:, first:], target[kept] - first
            summed = torch.nn.functional.cross_entropy(
                logits, wanted, weight=weight[first:], reduction="sum", ignore_index=-1
            )
            total = total + summed + Z_LOSS * torch.logsumexp(logits, -1).square().sum()
    return total, frames


def gradients_of(model: TorchBagpiper) -> dict[str, np.ndarray]:
    named = {f"decoder.{n}": p for n, p in model.decoder.named_parameters()}
    named |= {f"tower.{n}": p for n, p in model.tower.named_parameters()}
    named |= {
        "adaptor.weight": model.adaptor.weight,
        "adaptor.bias": model.adaptor.bias,
        "stream_emb": model.stream_emb,
    }
    return {name: parameter.grad.numpy() for name, parameter in named.items()}


def as_theirs(ours: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our gradients under torch's names: a gradient is laid out as its parameter."""
    shapes = {name: x.shape for name, x in ours.items()}
    theirs = {f"decoder.{n}": x for n, x in to_theirs(qwen3.entries(shapes), ours)}
    theirs |= {f"tower.{n}": x for n, x in to_theirs(tower_names.entries(shapes), ours)}
    adaptor = {"adaptor.weight": ours["adaptor/kernel"].T, "adaptor.bias": ours["adaptor/bias"]}
    return theirs | adaptor | {"stream_emb": ours["stream_emb"]}


@pytest.fixture(scope="module")
def compute():
    """(parameters, batch) → ((loss sum, frames), gradients)."""
    config = dataclasses.replace(CONFIG, model=MODEL, loss=LossConfig(chunk=32, z_loss=Z_LOSS))
    loss = next_token(config)

    def objective(parameters, batch):
        sums = loss(parameters, batch)
        return sums.total, sums.frames

    return jax.jit(jax.value_and_grad(objective, has_aux=True))


@pytest.mark.parametrize("seed, released", [(0, False), (1, True)])
def test_loss_and_every_gradient_equal_torch(compute, seed, released):
    ours = tiny_models.parameters(tiny_models.random_model(MODEL, seed))
    sequences = documents(seed, released)
    (value, frames), gradients = compute(ours, batch_of(sequences))
    model = TorchBagpiper(MODEL, ours)
    expected, expected_frames = torch_loss(model, sequences)
    expected.backward()
    assert int(frames) == expected_frames
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    theirs, found = gradients_of(model), as_theirs({n: np.asarray(g) for n, g in gradients.items()})
    assert found.keys() == theirs.keys()
    for name, wanted in theirs.items():
        # A key bias moves all scores of a query alike: its gradient is rounding around zero.
        scale = np.abs(wanted).max() if not name.endswith("k_proj.bias") else 1.0
        assert scale > 0, name
        np.testing.assert_allclose(found[name], wanted, atol=2e-5 * scale, rtol=0, err_msg=name)
