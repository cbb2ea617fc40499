"""Orbax's stored parameters, read and written in parts.

Orbax saves and restores a parameter whole; 8B parameters stacked over layers are 7 GB each. So Orbax writes the tree
and what describes it, with one number for each parameter, and the arrays then go through TensorStore, which is what
Orbax itself stores with. Orbax restores the result as it restores its own.
"""

import dataclasses
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from jax.sharding import AbstractMesh

from bagpiper_jax import parallel
from bagpiper_jax.interop.faults import InterchangeError
from bagpiper_jax.models.parameters import Shapes, unflatten

PART_BYTES = 1 << 25
"""About what is read and written at once."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """One parameter on disk.

    Attributes:
        name: of the parameter and where it is, for errors.
        band: rows of the leading axis that are stored together, hence best read and written together.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    band: int
    _array: ts.TensorStore

    def bands(self, rows: int | None = None) -> list[tuple[int, int]]:
        """Ranges [start, stop) of the leading axis of about `PART_BYTES`, or of `rows` rows, made of whole bands."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        step = self.band * max(1, (rows or PART_BYTES // max(row, 1)) // self.band)
        length = self.shape[0] if self.shape else 1
        return [(start, min(start + step, length)) for start in range(0, length, step)]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop). Raises InterchangeError for a piece that is missing or torn."""
        try:
            return np.asarray(self._slice(start, stop).read().result())
        except (ValueError, OSError) as error:  # TensorStore's words for them
            raise InterchangeError(f"cannot read {self.name}: {error}; it is damaged") from error

    def write(self, start: int, stop: int, values: np.ndarray) -> ts.Future:
        """Starts writing; `result()` of what it returns waits until the values are on disk."""
        return self._slice(start, stop).write(np.ascontiguousarray(values)).commit

    def _slice(self, start: int, stop: int) -> ts.TensorStore:
        return self._array[start:stop] if self.shape else self._array


def require_space(output: Path, needed: int) -> None:
    """Raises InterchangeError where the disk of `output`, which need not exist yet, has no room for `needed` bytes."""
    parent = next(p for p in output.absolute().parents if p.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise InterchangeError(f"{output} needs {needed / 1e9:.1f} GB, {parent} has {free / 1e9:.1f} GB free")


def create(directory: Path, shapes: Shapes, dtypes: Mapping[str, np.dtype], chunks: Shapes) -> None:
    """An Orbax checkpoint of parameters without values.

    Args:
        directory: to make.
        shapes, dtypes: by path.
        chunks: shape of the pieces stored apart.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory, unflatten({name: np.ones(1, dtypes[name]) for name in shapes}))
    for name, shape in shapes.items():
        # One at a time: commits under way together leave ten times as many files behind.
        ts.open(
            _spec(directory, name),
            create=True,
            delete_existing=True,
            dtype=ts.dtype(dtypes[name]),
            shape=shape,
            chunk_layout=ts.ChunkLayout(chunk_shape=chunks[name]),
            codec=ts.CodecSpec({"driver": "zarr", "compressor": None}),  # weights hardly compress
        ).result()


def open_parameters(directory: Path, names: Shapes, write: bool = False) -> dict[str, Stored]:
    """The stored parameters of these names and shapes. Raises InterchangeError if one is absent or misshapen."""
    opened = {name: ts.open(_spec(directory, name), open=True, read=True, write=write) for name in names}
    return {name: _stored(directory, name, opened[name], tuple(shape)) for name, shape in names.items()}


def _stored(directory: Path, name: str, opened: ts.Future, shape: tuple[int, ...]) -> Stored:
    try:
        array = opened.result()
    except ValueError as error:
        raise InterchangeError(f"{directory} holds no readable parameter {name}: {error}") from error
    if tuple(array.shape) != shape:
        raise InterchangeError(f"{directory}: {name} is {list(array.shape)}, should be {list(shape)}")
    band = array.chunk_layout.read_chunk.shape[0] if shape else 1
    return Stored(f"{name} in {directory}", shape, array.dtype.numpy_dtype, band, array)


def _spec(directory: Path, name: str) -> dict:
    base = str(directory)
    kvstore = {
        "driver": "ocdbt",
        # A local path as it is: in a URL, some characters of file names would mean something else.
        "base": base if "://" in base else {"driver": "file", "path": f"{base}/"},
        "path": name.replace("/", ".") + "/",
    }
    return {
        "driver": "zarr",
        "kvstore": kvstore,
        # A missing piece must be an error, so that zeros are stored like any other value.
        "store_data_equal_to_fill_value": True,
        # Waiting for the disk after each piece takes three times as long. Pieces that a power cut loses have another
        # checksum than the journal tells, and all files are synchronized before the result gets its name.
        "context": {"file_io_sync": False},
    }


def chunk_shapes(
    shapes: Shapes, mesh: parallel.MeshConfig, dtypes: Mapping[str, np.dtype]
) -> dict[str, tuple[int, ...]]:
    """How parameters are cut for a mesh: into what one device holds, each layer apart, tables of 32 MiB at most."""
    whole = parallel.make_mesh(mesh) if -1 in mesh.sizes else AbstractMesh(mesh.sizes, parallel.MESH_AXES)
    abstract = {name: jax.ShapeDtypeStruct(shape, dtypes[name]) for name, shape in shapes.items()}
    shardings = parallel.parameter_sharding(whole, unflatten(abstract))
    flat = {parallel.parameter_path(path): s for path, s in jax.tree_util.tree_leaves_with_path(shardings)}
    return {name: _chunk(name, flat[name].shard_shape(shape), dtypes[name]) for name, shape in shapes.items()}


def _chunk(name: str, shard: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    if not shard:
        return ()
    rows = 1 if "/layers/" in name else shard[0]
    row = math.prod(shard[1:]) * dtype.itemsize
    return (max(1, min(rows, PART_BYTES // max(row, 1))), *shard[1:])
