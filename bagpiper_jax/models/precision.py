"""In which types a model's parameters are kept where nothing of them trains."""

from typing import Any, Literal

from bagpiper_jax.models import quantized
from bagpiper_jax.models.quantized import Quantized

Precision = Literal["float32", "bfloat16", "int8"]
"""Of the matrices. int8 is for the decoder's layers (`quantized.INPUTS`); the other matrices are bfloat16 then."""

_VECTORS = ("norm", "scale", "bias")
"""Ends of the names of what is float32 in any precision: norms compute in it, and vectors take no room."""


def is_rounded(path: str, precision: Precision) -> bool:
    """Whether a parameter becomes `Quantized`."""
    return precision == "int8" and path in quantized.INPUTS


def dtype_of(path: str, precision: Precision) -> str:
    """The type of a parameter that does not become `Quantized`."""
    return "float32" if path.endswith(_VECTORS) or precision == "float32" else "bfloat16"


def in_precision(path: str, x: Any, precision: Precision) -> Any:
    """A parameter in a precision, within a program that is being traced or outside; what is `Quantized` stays so."""
    if isinstance(x, Quantized):
        return x
    if is_rounded(path, precision):
        return quantized.rounded(x, quantized.INPUTS[path])
    return x.astype(dtype_of(path, precision))
