"""Schedule and AdamW against hand-computed values and torch."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bagpiper_jax.training.optimizer import OptimizerConfig, learning_rate, make_optimizer
from bagpiper_jax.training.partition import EMBEDDING


def test_schedule():
    config = OptimizerConfig(peak_rate=2.0, warmup_steps=10, decay_end=110, min_ratio=0.3)
    rates = [float(learning_rate(config, s)) for s in (0, 5, 10, 60, 110, 1000)]
    np.testing.assert_allclose(rates, [0, 1, 2, 2 * 0.65, 0.6, 0.6], rtol=1e-6)


def test_constant_rate_without_warmup():
    config = OptimizerConfig(peak_rate=2.0, warmup_steps=0, min_ratio=1.0)
    assert [float(learning_rate(config, s)) for s in (0, 1000, 10**6)] == [2, 2, 2]


# Five steps of 0.1 with first moments rounded to 8 bits.
@pytest.mark.parametrize("mu_dtype, tolerance", [("float32", 2e-5), ("bfloat16", 5 * 0.1 * 2**-8)])
def test_adamw_equals_torch_with_clipping_and_decay_mask(mu_dtype, tolerance):
    torch = pytest.importorskip("torch")
    config = OptimizerConfig(
        peak_rate=0.1, warmup_steps=0, min_ratio=1.0, weight_decay=0.3, clip=0.5, mu_dtype=mu_dtype
    )
    rng = np.random.default_rng(0)
    values = {EMBEDDING: rng.standard_normal((4, 3)), "decoder/norm": rng.standard_normal(5)}
    ours = {name: jnp.asarray(x, jnp.float32) for name, x in values.items()}
    theirs = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in values.items()}
    groups = [
        {"params": [theirs[EMBEDDING]], "weight_decay": 0.0},
        {"params": [theirs["decoder/norm"]], "weight_decay": 0.3},
    ]
    adam = torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.95), eps=1e-8)
    optimizer = make_optimizer(config)
    state = optimizer.init(ours)
    for _ in range(5):
        gradients = {name: rng.standard_normal(x.shape) for name, x in values.items()}
        updates, state = optimizer.update(
            {n: jnp.asarray(g, jnp.float32) for n, g in gradients.items()}, state, ours
        )
        ours = optax.apply_updates(ours, updates)
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(gradients[name])
        torch.nn.utils.clip_grad_norm_(theirs.values(), 0.5)
        adam.step()
    for name, parameter in theirs.items():
        np.testing.assert_allclose(ours[name], parameter.detach().numpy(), atol=tolerance)
    moments = optax.tree.get(state, "mu"), optax.tree.get(state, "nu")
    assert [{x.dtype for x in m.values()} for m in moments] == [{jnp.dtype(mu_dtype)}, {jnp.dtype("float32")}]


def test_warmup_must_end_before_decay():
    with pytest.raises(ValueError, match="warmup_steps 10 must come before decay_end 10"):
        OptimizerConfig(warmup_steps=10, decay_end=10)


def _muon_updates(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Gradients of matrices of two layers and of a norm, and Muon's first updates to them at rate 1."""
    rng = np.random.default_rng(seed)
    shapes = {
        "decoder/layers/attention/query": (2, 12, 2, 4),
        "decoder/layers/attention/output": (2, 2, 4, 12),
        "decoder/layers/ffn/up": (2, 12, 20),
        "decoder/norm": (12,),
    }
    gradients = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    config = OptimizerConfig(
        kind="muon", peak_rate=1.0, warmup_steps=0, min_ratio=1.0, weight_decay=0.0, clip=1e9
    )
    optimizer = make_optimizer(config)
    values = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    updates, _ = optimizer.update(
        {name: jnp.asarray(g) for name, g in gradients.items()}, optimizer.init(values), values
    )
    return gradients, {name: np.asarray(update) for name, update in updates.items()}


def test_muon_makes_each_layers_matrices_orthogonal_along_the_gradients_own_directions():
    gradients, updates = _muon_updates(0)
    sides = {"query": (12, 8), "output": (8, 12), "up": (12, 20)}
    for name, gradient in gradients.items():
        if name == "decoder/norm":
            continue
        side = sides[name.rpartition("/")[2]]
        for layer in range(2):
            left, _, right = np.linalg.svd(gradient[layer].reshape(side), full_matrices=False)
            update = -updates[name][layer].reshape(side) / (0.2 * max(side) ** 0.5)
            values = left.T @ update @ right.T
            # Five iterations bring the values between 0.68 and 1.13, they do not make them 1.
            assert ((0.6 < np.diag(values)) & (np.diag(values) < 1.2)).all(), name
            np.testing.assert_allclose(values - np.diag(np.diag(values)), 0, atol=2e-3)
    # The norm is no matrix: Adam's first step is the sign.
    np.testing.assert_allclose(updates["decoder/norm"], -np.sign(gradients["decoder/norm"]), rtol=1e-4)


def test_muon_equals_torch_on_a_first_step():
    torch = pytest.importorskip("torch")
    gradients, updates = _muon_updates(1)
    parameter = torch.nn.Parameter(torch.zeros(20, 12))
    parameter.grad = torch.tensor(gradients["decoder/layers/ffn/up"][1].T.copy())
    torch.optim.Muon([parameter], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    # PyTorch iterates in bfloat16.
    np.testing.assert_allclose(
        updates["decoder/layers/ffn/up"][1].T, parameter.detach().numpy(), atol=0.03 * 0.2 * 20**0.5
    )
