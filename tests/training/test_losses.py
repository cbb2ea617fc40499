"""The chunked multi-stream loss against torch, which computes docs/reference.md, Loss with full logits per stream."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bagpiper_jax import parallel
from bagpiper_jax.models.embedding import embed_streams
from bagpiper_jax.parallel import MeshConfig
from bagpiper_jax.training.losses import LossConfig, loss_sums
from bagpiper_jax.vocabulary import CODEC_CLASS_WEIGHT, Vocabulary

VOCABULARY = Vocabulary(text_size=40, codebook_size=16, num_streams=8)
B, T, D, S, N = 3, 23, 12, 8, 4


def make_inputs(seed=0, audio_share=0.5, mask_share=0.7, scale=1.0, offset_scale=1.0, rows=B, width=D):
    rng = np.random.default_rng(seed)
    audio = rng.random((rows, T)) < audio_share
    tokens = np.zeros((rows, T, S), np.int32)
    tokens[..., 0] = rng.integers(1, VOCABULARY.codec_start, (rows, T))
    codes = VOCABULARY.codes_to_ids(rng.integers(0, 16, (rows * T, S))).reshape(rows, T, S)
    tokens[audio] = codes[audio]
    masked = rng.random((rows, T)) < mask_share
    weights = (masked[..., None] * (tokens != 0)).astype(np.float32)
    weights[tokens >= VOCABULARY.codec_start] *= CODEC_CLASS_WEIGHT
    return {
        "hidden": rng.standard_normal((rows, T, width)).astype(np.float32),
        "lm_head": scale * rng.standard_normal((VOCABULARY.size, width)).astype(np.float32),
        "stream_emb": offset_scale * rng.standard_normal((S, width)).astype(np.float32),
        "tokens": tokens,
        "loss_weights": weights,
        "direction": rng.integers(0, N, (rows, T)).astype(np.int32),
    }


def torch_loss(inputs, z_loss=0.0, dtype="float64"):
    """(loss sum, frames, gradients) by full logits and torch's own cross_entropy, in float64."""
    torch = pytest.importorskip("torch")
    start, dtype = VOCABULARY.codec_start, getattr(torch, dtype)
    names = ("hidden", "lm_head", "stream_emb")
    hidden, head, offsets = leaves = [torch.tensor(inputs[n], dtype=dtype, requires_grad=True) for n in names]
    targets = torch.tensor(inputs["tokens"])[:, 1:].long()
    weights = torch.tensor(inputs["loss_weights"], dtype=dtype)[:, 1:]
    class_weight = torch.ones(VOCABULARY.size, dtype=dtype)
    class_weight[start:] = CODEC_CLASS_WEIGHT
    total = torch.zeros((), dtype=dtype)
    for stream in range(S):
        state = hidden[:, :-1] + (offsets[stream] if stream else 0)
        rows = head if stream == 0 else head[start:]
        wanted = targets[..., stream].masked_fill(weights[..., stream] == 0, 0)
        keep = wanted != 0
        wanted = wanted - (start if stream else 0)
        logits = state[keep] @ rows.T
        if not len(logits):
            continue
        total = total + torch.nn.functional.cross_entropy(
            logits, wanted[keep], weight=class_weight[-len(rows) :], reduction="sum"
        )
        total = total + z_loss * torch.logsumexp(logits, -1).square().sum()
    total.backward() if total.requires_grad else None
    gradients = [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in leaves]
    return float(total.detach()), int((weights[..., 0] != 0).sum()), gradients


def jax_loss(inputs, **config):
    def total(hidden, lm_head, stream_emb):
        rest = (inputs["tokens"], inputs["loss_weights"], inputs["direction"])
        sums = loss_sums(hidden, lm_head, stream_emb, *rest, VOCABULARY, N, LossConfig(**config))
        return sums.total, sums

    arrays = [jnp.asarray(inputs[n]) for n in ("hidden", "lm_head", "stream_emb")]
    (value, sums), gradients = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(*arrays)
    return float(value), sums, gradients


CASES = {
    "mixed": {},
    "no audio": {"audio_share": 0.0},
    "only audio": {"audio_share": 1.0, "mask_share": 1.0},
    "all masked": {"mask_share": 0.0},
    "logits to 40": {"scale": 40 / 9, "seed": 1},
    "bias to 60": {"scale": 3.0, "offset_scale": 2.0, "seed": 2},
}


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_equal_torch(case, z_loss):
    inputs = make_inputs(**CASES[case])
    expected, frames, expected_gradients = torch_loss(inputs, z_loss)
    value, sums, gradients = jax_loss(inputs, chunk=7, z_loss=z_loss)
    assert value == pytest.approx(expected, rel=2e-6, abs=1e-6)
    assert int(sums.frames) == frames
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(gradient, wanted, atol=3e-6 * scale, rtol=0)


def test_extreme_cases_are_extreme():
    """The cases above reach what their names say."""
    inputs = make_inputs(**CASES["logits to 40"])
    assert np.abs(inputs["hidden"] @ inputs["lm_head"].T).max() > 40
    inputs = make_inputs(**CASES["bias to 60"])
    assert np.abs(inputs["stream_emb"] @ inputs["lm_head"].T).max() > 60


@pytest.mark.parametrize("chunk", [1, 4, 23, 1000])
def test_chunk_size_does_not_change_the_loss(chunk):
    inputs = make_inputs()
    expected, _, gradients = jax_loss(inputs, chunk=6)
    value, _, others = jax_loss(inputs, chunk=chunk)
    assert value == pytest.approx(expected, rel=1e-6)
    for one, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_beyond_float_range_stays_finite():
    value, _, gradients = jax_loss(make_inputs(scale=40.0, offset_scale=20.0))
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradients)


def test_row_zero_of_stream_embedding_is_unused():
    inputs = make_inputs()
    value, _, (_, _, gradient) = jax_loss(inputs)
    assert not gradient[0].any() and gradient[1:].any()
    inputs["stream_emb"][0] += 5
    assert jax_loss(inputs)[0] == value


def test_sums_by_stream_and_direction_add_up():
    inputs = make_inputs()
    value, sums, _ = jax_loss(inputs)
    assert float(sums.direction.sum()) == pytest.approx(value, rel=1e-5)
    assert float(sums.direction_frames.sum()) == float(sums.frames)
    np.testing.assert_array_equal(sums.stream_targets, (inputs["loss_weights"][:, 1:] != 0).sum((0, 1)))
    for direction in range(N):
        alone = dict(
            inputs, loss_weights=inputs["loss_weights"] * (inputs["direction"] == direction)[..., None]
        )
        assert jax_loss(alone)[0] == pytest.approx(float(sums.direction[direction]), rel=1e-5, abs=1e-5)


def test_accuracy_counts_stream_zero_argmax():
    inputs = make_inputs()
    logits = inputs["hidden"][:, :-1] @ inputs["lm_head"].T
    hit = logits.argmax(-1) == inputs["tokens"][:, 1:, 0]
    expected = (hit & (inputs["loss_weights"][:, 1:, 0] != 0)).sum()
    inputs["tokens"][:, 1::2, 0] = logits.argmax(-1)[:, ::2]
    hit = logits.argmax(-1) == inputs["tokens"][:, 1:, 0]
    valid = (inputs["loss_weights"][:, 1:, 0] != 0) & (inputs["tokens"][:, 1:, 0] != 0)
    expected = (hit & valid).sum()
    assert expected > 10
    assert int(jax_loss(inputs)[1].correct) == expected


@pytest.mark.parametrize("tied", ["all ids", "a text id and a codec id", "two text ids, the target first"])
def test_a_tie_is_not_ranked_first(tied):
    """A dead model, whose logits are all equal, knows nothing."""
    inputs = make_inputs()
    head, target = np.zeros_like(inputs["lm_head"]), VOCABULARY.text_start
    inputs["hidden"] = np.ones_like(inputs["hidden"])
    inputs["tokens"][..., 0] = target
    frames = int((inputs["loss_weights"][:, 1:, 0] != 0).sum())
    if tied != "all ids":
        head[[target, target + 1 if "two" in tied else VOCABULARY.codec_start + 3]] = 1.0
    inputs["lm_head"] = head
    assert int(jax_loss(inputs)[1].correct) == 0
    head[target] = 2.0
    assert int(jax_loss(inputs)[1].correct) == frames > 0


def test_bfloat16_stays_near_float32():
    inputs = make_inputs()
    expected, _, gradients = torch_loss(inputs)
    inputs["hidden"] = jnp.asarray(inputs["hidden"], jnp.bfloat16)
    value, _, (_, d_head, _) = jax_loss(inputs)
    assert value == pytest.approx(expected, rel=5e-3)
    assert d_head.dtype == jnp.float32
    assert np.linalg.norm(d_head - gradients[1]) < 0.02 * np.linalg.norm(gradients[1])


def test_streams_cost_next_to_nothing_beside_one_product_with_the_head():
    """At the release's sizes, forwards and backwards: streams 1 to 7 add 0.1 % whether there is audio or not."""
    slots, width = 1024, 4096
    shape = lambda *s, dtype="float32": jax.ShapeDtypeStruct(s, dtype)  # noqa: E731

    def flops(streams: int) -> float:
        vocabulary = Vocabulary(num_streams=streams, codebook_size=8 * 1025 // streams - 1)
        total = lambda *x: loss_sums(*x, vocabulary, N, LossConfig(chunk=slots)).total  # noqa: E731
        lowered = jax.jit(jax.grad(total, (0, 1, 2))).lower(
            shape(1, slots, width), shape(vocabulary.size, width), shape(streams, width),
            shape(1, slots, streams, dtype="int32"), shape(1, slots, streams), shape(1, slots, dtype="int32"),
        )  # fmt: skip
        return lowered.cost_analysis()["flops"] / (2 * slots * vocabulary.size * width)

    assert flops(1) == pytest.approx(3, abs=0.01)
    assert flops(8) < 1.002 * flops(1)


def test_tables_gradients_lose_less_between_devices_than_products_in_bfloat16_lose():
    """Each device's float32 sum is rounded once before it travels; torch's gradient in float64 is the truth."""
    inputs = make_inputs(rows=8, width=16)
    given = {name: jnp.asarray(values) for name, values in inputs.items()}
    mesh = parallel.make_mesh(MeshConfig(fsdp=8))

    def gradients(head, table):
        def total(head):
            hidden = given["hidden"].astype("bfloat16")
            rest = [given[name] for name in ("tokens", "loss_weights", "direction")]
            return loss_sums(hidden, head, given["stream_emb"], *rest, VOCABULARY, N).total

        looked_up = jax.grad(lambda table: jnp.sum(embed_streams(table, given["tokens"], "bfloat16") ** 2))
        return jax.grad(total)(head), looked_up(table)

    arguments = given["lm_head"], given["lm_head"]
    alone = jax.jit(gradients)(*arguments)
    with jax.set_mesh(mesh):
        divided = jax.jit(gradients)(*arguments)
    truth = torch_loss(inputs)[2][1]

    def error(found, expected):
        return np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected)

    assert error(divided[0], truth) < 1.5 * error(alone[0], truth) < 0.02
    assert 0 < error(divided[1], np.asarray(alone[1])) < 2**-8
