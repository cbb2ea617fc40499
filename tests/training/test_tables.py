"""Tables with rows beyond the vocabulary: nobody else sees them, and any run starts from any other's tables.

That they change no loss and no gradient is in test_sharding.py.
"""

import dataclasses

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny_models
from flax import nnx
from interop_helpers import MODEL, assert_equal, exporting
from training_helpers import CONFIG

from bagpiper_jax import parallel
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.interop.export_config import ExportConfig
from bagpiper_jax.interop.exporting import list_tensors
from bagpiper_jax.interop.formats.opening import open_tensors
from bagpiper_jax.models.config_json import save_model_config
from bagpiper_jax.models.parameters import unflatten
from bagpiper_jax.training.state import TABLES, model_definition, start_state
from bagpiper_jax.training.tables import starting_parameters

PADDED = MODEL.with_tables(128)
ROWS, MORE = MODEL.table_rows, PADDED.table_rows


@pytest.fixture(scope="module")
def parameters():
    return tiny_models.parameters(tiny_models.random_model(MODEL))


@pytest.fixture(scope="module")
def runs(parameters, tmp_path_factory):
    """The same parameters as two runs; in one the tables go on with what must never be seen."""
    longer = {n: np.pad(parameters[n], ((0, MORE - ROWS), (0, 0)), constant_values=1e3) for n in TABLES}
    found = {}
    for model, values in ((MODEL, parameters), (PADDED, parameters | longer)):
        path = tmp_path_factory.mktemp("run")
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path / "checkpoints" / "1" / "parameters", unflatten(values))
        save_model_config(path, model, tokenizer="byte")
        found[model.table_multiple] = path
    return found


def test_rows_are_a_multiple_of_what_is_asked():
    assert ROWS == MODEL.vocabulary.size and ROWS % 128
    assert MORE % 128 == 0 and 0 < MORE - ROWS < 128
    with pytest.raises(ValueError, match="table_multiple must be at least 1"):
        MODEL.with_tables(0)


def test_an_export_holds_the_vocabulary_alone(runs, tmp_path):
    plain, padded = (exporting(run, tmp_path / str(n), "qwen3") for n, run in runs.items())
    read = lambda path: {name: tensor.read() for name, tensor in open_tensors(path).items()}  # noqa: E731
    assert_equal(read(padded), read(plain))
    listed = [list(list_tensors(ExportConfig(list=True, model=model))) for model in (MODEL, PADDED)]
    assert listed[0] == listed[1]


def test_no_stream_predicts_what_lies_beyond(parameters):
    longer = {n: np.pad(parameters[n], ((0, MORE - ROWS), (0, 0)), constant_values=1e3) for n in TABLES}
    models = [
        nnx.merge(model_definition(model), unflatten(values))
        for model, values in ((MODEL, parameters), (PADDED, parameters | longer))
    ]
    hidden = jax.random.normal(jax.random.key(0), (3, MODEL.decoder.width))
    for stream in (0, 5):
        plain, padded = (model.logits(hidden, stream) for model in models)
        np.testing.assert_array_equal(plain, padded)


@pytest.mark.parametrize("theirs, ours", [(1, 128), (128, 1), (128, 64)])
def test_a_run_starts_from_tables_of_any_length(runs, parameters, theirs, ours):
    batch = BatchShape(8, 48, 2, MODEL.tower.mel_bins)
    config = dataclasses.replace(CONFIG, model=MODEL.with_tables(ours), batch=batch, stage="pretrain")
    mesh = parallel.make_mesh(config.mesh, jax.devices()[:1])
    found = start_state(config, starting_parameters(runs[theirs], config.model, mesh)).parameters
    for name in TABLES:
        assert len(found[name]) == config.model.table_rows
        np.testing.assert_array_equal(found[name][:ROWS], parameters[name])
    assert np.isfinite(np.asarray(found["lm_head"])).all()
