"""musicnn, read and computed without TensorFlow, gives what its own graph gives when TensorFlow runs it."""

import os

import numpy as np
import pytest
from known_evaluators import installed, write_sound

from bagpiper_jax import audio
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import musicnn, open_evaluator, tf_checkpoint, weights


@pytest.fixture(scope="module")
def directory():
    """Of the model in the package; the test is skipped where it is not installed."""
    installed("musicnn")
    return weights.in_package("musicnn", "musicnn", "musicnn") / "MTT_musicnn"


def _graphs_own(directory, *names):
    """What the checkpoint's graph, as it was saved, gives for a batch of patches."""
    v1 = pytest.importorskip("tensorflow").compat.v1
    patches = np.random.default_rng(0).uniform(0, 4, (2, musicnn.PATCH, 96)).astype(np.float32)
    meta = v1.MetaGraphDef.FromString((directory / ".meta").read_bytes())
    for node in meta.graph_def.node:  # shapes that the gradients' nodes were saved with are others today
        node.attr.pop("_output_shapes", None)
    with v1.Graph().as_default(), v1.Session() as session:
        v1.train.import_meta_graph(meta).restore(session, f"{directory}/")
        feed = {"model/Placeholder:0": patches, "model/Placeholder_2:0": False}
        return patches, session.run([f"model/{name}:0" for name in names], feed)


@pytest.mark.slow
def test_tags_are_those_of_the_checkpoints_own_graph(directory):
    patches, (logits, shares) = _graphs_own(directory, "dense_1/BiasAdd", "Sigmoid")
    found = open_evaluator("musicnn").tags(patches)
    assert np.ptp(logits) > 1 and len(patches) == 2
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), shares, atol=1e-5)


def test_its_name_says_that_it_is_a_stand_in():
    model = installed("musicnn")
    assert (model.name, len(model.labels), len(model.version)) == ("mtt_musicnn", 50, 64)


def test_patches_lie_side_by_side_and_short_clips_are_repeated(tmp_path):
    model = installed("musicnn")
    for seconds, count in ((0.5, 1), (3.1, 1), (6.1, 2)):
        heard = model.hear(write_sound(tmp_path / "a.wav", seconds))
        assert (heard.embeddings.shape, heard.logits.shape) == ((count, 200), (count, 50))
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(audio.AudioError):
        model.hear(tmp_path / "b.wav")


def test_other_directories_are_refused(tmp_path, directory):
    (tmp_path / "configuration.py").write_text("MTT_LABELS = ['a']\n")
    for name, said in (("MTT_musicnn", "has no .index"), ("Other", "has no .index")):
        (tmp_path / name).mkdir()
        with pytest.raises(MissingEvaluatorError, match=said):
            open_evaluator("musicnn", str(tmp_path / name))
    for name in (".index", ".data-00000-of-00001"):
        os.link(directory / name, tmp_path / "Other" / name)
        (tmp_path / "MTT_musicnn" / name).write_bytes(b"x" * 100)
    with pytest.raises(MissingEvaluatorError, match="neither of the package's"):
        open_evaluator("musicnn", str(tmp_path / "Other"))
    with pytest.raises(MissingEvaluatorError, match="no checkpoint"):
        open_evaluator("musicnn", str(tmp_path / "MTT_musicnn"))


def test_a_checkpoint_that_is_cut_says_so(tmp_path, directory):
    index, data = ((directory / f".{part}").read_bytes() for part in ("index", "data-00000-of-00001"))
    (tmp_path / "x.index").write_bytes(index)
    (tmp_path / "x.data-00000-of-00001").write_bytes(data[:-5000])
    with pytest.raises(tf_checkpoint.CheckpointError, match="outside the data file"):
        tf_checkpoint.read(str(tmp_path / "x"))
