"""Muon for the decoder's matrices: momentum, made orthogonal (docs/reference.md, Muon).

The update of a matrix has singular values near 1, so directions that few examples speak of move as far as those that
all do. Norms, tables and the parts around the decoder are no such matrices and stay with Adam.
"""

import math

import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from bagpiper_jax.training.partition import Parameters

_ATTENTION, _FFN = "decoder/layers/attention/", "decoder/layers/ffn/"
_MATRICES = {
    **{_ATTENTION + name: MuonDimensionNumbers((1,), (2, 3)) for name in ("query", "key", "value")},
    _ATTENTION + "output": MuonDimensionNumbers((1, 2), (3,)),
    **{_FFN + name: MuonDimensionNumbers((1,), (2,)) for name in ("gate", "up", "down")},
}
"""Path → the axes that a layer's matrix reads and those that it writes; the first axis counts the layers."""

_MOMENTUM = 0.95


def muon_and(others: optax.GradientTransformation, matrix_rate: float) -> optax.GradientTransformation:
    """Muon for the decoder's matrices, `others` for everything else.

    Args:
        others: the direction of all other parameters.
        matrix_rate: the root mean square of a matrix's update. Adam's is near 0.2, so that either keeps to one
            learning rate (arXiv 2502.16982).
    """
    muon = optax.chain(
        scale_by_muon(beta=_MOMENTUM, weight_dimension_numbers=_axes),
        optax.stateless(lambda updates, _: _scaled(updates, matrix_rate)),
    )
    return optax.partition({"muon": muon, "others": others}, _label)


def _label(parameters: Parameters) -> dict[str, str]:
    return {path: "muon" if path in _MATRICES else "others" for path in parameters}


def _axes(updates: Parameters) -> dict:
    """The axes of each matrix; what is masked stays so."""
    return {path: x if isinstance(x, optax.MaskedNode) else _MATRICES[path] for path, x in updates.items()}


def _scaled(updates: Parameters, matrix_rate: float) -> dict:
    """Orthogonal [m, n] has a root mean square of 1 / √max(m, n)."""

    def scaled(path: str, update):
        if isinstance(update, optax.MaskedNode):
            return update
        read, written = (
            math.prod(update.shape[axis] for axis in axes)
            for axes in (_MATRICES[path].reduction_axis, _MATRICES[path].output_axis)
        )
        return update * (matrix_rate * math.sqrt(max(read, written)))

    return {path: scaled(path, update) for path, update in updates.items()}
