"""Evaluators that a package runs, over stand-ins of its documented interface: what is given, and what is made of it.

No package and no weights of these were at hand: the stand-ins have the names and arguments of openl3 0.4.2,
audiobox_aesthetics 0.0.4 and funasr 1.4, and nothing of their networks.
"""

import sys
import types

import numpy as np
import pytest
from known_evaluators import write_sound

from bagpiper_jax import audio
from bagpiper_jax.evaluation.benchmarks.faults import MissingEvaluatorError
from bagpiper_jax.evaluation.evaluators import open_evaluator


@pytest.fixture
def package(monkeypatch):
    """Puts a module with these attributes in the place of a package's."""

    def put(name, **attributes):
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.fixture
def clip(tmp_path):
    return write_sound(tmp_path / "a.wav", 1.25)


def _weights(folder, name, *others):
    for each in (name, *others):
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).write_bytes(b"weights")
    return folder / name


@pytest.mark.parametrize("content", ["env", "music"])
def test_openl3_hears_as_stable_audio_metrics_does(content, tmp_path, clip, package):
    asked = []

    def load(path, spectrogram, numbers):
        return (path, spectrogram, numbers)

    def embed(samples, rate, model=None, input_repr=None, content_type="music", embedding_size=6144, center=True,
              hop_size=0.1, batch_size=32, frontend="kapre", verbose=True):  # fmt: skip
        asked.append((len(samples), rate, model, hop_size, center))
        assert np.abs(samples).max() == pytest.approx(10 ** (-1 / 20))
        return np.arange(2 * 512, dtype=np.float32).reshape(2, 512), np.array([0.0, 0.5])

    file = _weights(tmp_path, f"openl3_audio_mel256_{content}.h5")
    models = types.SimpleNamespace(load_audio_embedding_model_from_path=load)
    package("openl3", models=models, get_audio_embedding=embed)
    listener = open_evaluator("openl3", str(file))
    heard = listener.hear(clip)
    assert asked == [(round(1.25 * 44_100), 44_100, (str(file), "mel256", 512), 0.5, True)]
    assert heard.embeddings.shape == (2, 1024) and heard.logits is None, "two equal channels side by side"
    np.testing.assert_array_equal(*np.split(heard.embeddings, 2, axis=1))
    assert listener.name == f"openl3_{content}" and len(listener.version) == 64
    with pytest.raises(MissingEvaluatorError, match="must be called as the package calls it"):
        open_evaluator("openl3", str(_weights(tmp_path, "mine.h5")))


def test_audiobox_judges_mono_at_16_khz(tmp_path, package):
    pytest.importorskip("torch")

    class AesPredictor:
        def __init__(
            self, checkpoint_pth, precision="bf16", batch_size=1, data_col="path", sample_rate=16000
        ):
            self.checkpoint, self.column = checkpoint_pth, data_col

        def forward(self, batch):
            (item,) = batch
            assert tuple(item[self.column].shape) == (1, 20_000) and item["sample_rate"] == 16_000
            return [{"CE": 4.0, "CU": 5.0, "PC": 3.0, "PQ": float(item[self.column].abs().max())}]

    package("audiobox_aesthetics")
    package("audiobox_aesthetics.infer", AesPredictor=AesPredictor)
    judge = open_evaluator("audiobox", str(_weights(tmp_path, "checkpoint.pt")))
    found = judge.opinions(write_sound(tmp_path / "b.wav", 1.25, 44_100, 2))
    assert (found["ce"], found["cu"], found["pc"]) == (4.0, 5.0, 3.0)
    assert found["pq"] == pytest.approx(0.3, abs=0.01), "the first channel"
    with pytest.raises(audio.AudioError):
        judge.opinions(tmp_path / "none.wav")


def test_paraformer_hears_chinese_alone_and_writes_it_simplified(tmp_path, clip, package):
    class AutoModel:
        def __init__(self, model, disable_update=False, disable_pbar=False):
            self.model = model
            assert disable_update, "nothing is fetched"

        def generate(self, input, fs=16_000, batch_size_s=1):
            assert (len(input), fs, batch_size_s) == (20_000, 16_000, 300)
            return [{"key": "a", "text": "漢語"}]

    package("funasr", AutoModel=AutoModel)
    package("zhconv", convert=lambda text, locale: {"zh-cn": text.replace("漢語", "汉语")}[locale])
    _weights(tmp_path / "paraformer-zh", "model.pt", "config.yaml")
    recogniser = open_evaluator("paraformer", str(tmp_path / "paraformer-zh"))
    assert recogniser.transcribe(clip, "zh") == "汉语"
    assert recogniser.name == "paraformer_zh" and len(recogniser.version) == 64
    with pytest.raises(MissingEvaluatorError, match="hears Chinese alone"):
        recogniser.transcribe(clip, "en")


@pytest.mark.parametrize(
    "name, file, package_name",
    [
        ("openl3", "openl3_audio_mel256_env.h5", "openl3"),
        ("audiobox", "checkpoint.pt", "audiobox_aesthetics"),
        ("paraformer", "model.pt", "funasr"),
    ],
)
def test_what_is_missing_says_what_to_install_and_where_to_point(
    name, file, package_name, tmp_path, monkeypatch
):
    with pytest.raises(MissingEvaluatorError, match=f"name the path of .*pip install {package_name}"):
        open_evaluator(name)
    monkeypatch.setitem(sys.modules, package_name, None)
    path = _weights(tmp_path / "model", file, "config.yaml")
    with pytest.raises(MissingEvaluatorError, match=f"pip install {package_name}"):
        open_evaluator(name, str(path.parent if name == "paraformer" else path))
