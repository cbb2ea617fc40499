"""Which knob to turn when a step does not fit, the cheapest first."""

from jax.sharding import Mesh

from bagpiper_jax import parallel
from bagpiper_jax.training.config import TrainConfig


def advice(train: TrainConfig, mesh: Mesh, used: dict[str, float], limit: float) -> list[str]:
    """Bindings that take less memory, each with its price.

    Args:
        train, mesh: the plan that does not fit.
        used: GiB per chip, total and parts.
        limit: GiB of a chip.
    """
    state = used["parameters"] + used["optimizer"]
    rows = train.batch.rows // train.accumulation // parallel.shards(mesh, "batch")
    found = []
    if state > limit:
        found.append(
            f"parameters and optimizer alone take {state:.1f} of {limit:.1f} GiB: cut them into more parts "
            f"(MeshConfig.fsdp, now {mesh.shape['fsdp']}, with MeshConfig.replica = number of slices) "
            "or take more chips"
        )
        return found
    if train.model.decoder.remat != "full":
        found.append(
            "DecoderConfig.remat = 'full': a layer's activations are computed again, a third more FLOPs"
        )
    if rows > 1:
        more = train.accumulation * rows
        found.append(f"TrainConfig.accumulation = {more}: one row per chip at a time instead of {rows}")
    if train.loss.chunk > 128:
        found.append(
            "LossConfig.chunk = 128: fewer logits at a time; each chunk moves the head through memory"
        )
    if rows == 1:
        found.append(
            "MeshConfig.sequence or MeshConfig.tensor = 2: two chips share a row, for more traffic; batch.rows must "
            f"still divide by accumulation and the {parallel.shards(mesh, 'batch')} data shards that remain halved"
        )
    found.append("or take chips with more memory, see --topology")
    return found
