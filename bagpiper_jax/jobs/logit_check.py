"""Compares the logits of two checkpoints, ours through JAX, theirs through PyTorch.

bagpiper logit_check --gin.LogitCheckConfig.checkpoint=OURS --gin.LogitCheckConfig.other=base.pt \\
    --gin.LogitCheckConfig.audio=clip.wav
"""

from bagpiper_jax import configuration, parallel
from bagpiper_jax.evaluation.logit_check import LogitCheckConfig, logit_check
from bagpiper_jax.interop.faults import InterchangeError


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(LogitCheckConfig, argv, prog="bagpiper logit_check")
    parallel.require_devices()
    found = logit_check(config)
    print(f"{'':10} max error   relative         KL    top 1  top {config.top_k}")
    for name, a in found.items():
        print(
            f"{name:10} {a.max_error:9.2e}  {a.relative_error:9.2e}  {a.kl:9.2e}  {a.top_1:6.1%}  {a.top_k:6.1%}"
        )
    worst = max(a.relative_error for a in found.values())
    if not worst <= config.tolerance:
        raise InterchangeError(
            f"logits differ by {worst:.2e} of the largest, more than LogitCheckConfig.tolerance {config.tolerance}"
        )
