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
