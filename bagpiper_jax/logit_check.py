"""Compares the logits of two checkpoints, ours through JAX, theirs through PyTorch.

python -m bagpiper_jax.logit_check --gin.LogitCheckConfig.checkpoint=OURS --gin.LogitCheckConfig.other=base.pt \\
    --gin.LogitCheckConfig.audio=clip.wav
"""

import sys

from bagpiper_jax import configuration
from bagpiper_jax.audio import AudioError
from bagpiper_jax.interop.logit_check import LogitCheckConfig, logit_check
from bagpiper_jax.interop.names import InterchangeError
from bagpiper_jax.models.config_json import ModelConfigError
from bagpiper_jax.text import TokenizerError
from bagpiper_jax.training.checkpoints import CheckpointError

_EXPLAINED = (AudioError, CheckpointError, InterchangeError, ModelConfigError, TokenizerError)


def main(argv: list[str] | None = None) -> None:
    config = configuration.load(LogitCheckConfig, argv)
    try:
        found = logit_check(config)
    except _EXPLAINED as error:
        sys.exit(str(error))
    print(f"{'':10} max error   relative         KL    top 1  top {config.top_k}")
    for name, a in found.items():
        print(
            f"{name:10} {a.max_error:9.2e}  {a.relative_error:9.2e}  {a.kl:9.2e}  {a.top_1:6.1%}  {a.top_k:6.1%}"
        )
    worst = max(a.relative_error for a in found.values())
    if not worst <= config.tolerance:
        sys.exit(
            f"logits differ by {worst:.2e} of the largest, more than LogitCheckConfig.tolerance {config.tolerance}"
        )


if __name__ == "__main__":
    configuration.run_job(main)
