"""Templates escape all that enters them, pictures are valid files, charts are measured right."""

import io
from xml.etree import ElementTree

import jinja2
import numpy as np
import pytest

from bagpiper_jax import audio
from bagpiper_jax.pages import pictures, rendering
from bagpiper_jax.pages.charts import line_chart
from bagpiper_jax.pages.players import recording


def drawn(chart) -> str:
    return str(rendering.environment().get_template("parts.html.j2").module.line_chart(chart))


def test_spectrogram_is_a_png_with_the_tone_at_its_place():
    from PIL import Image

    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    image = Image.open(io.BytesIO(pictures.mel_spectrogram(tone)))
    image.load()
    assert image.size == (100, 128)
    brightest = 127 - np.asarray(image)[:, 50].argmax()
    # 1 kHz is 15 of 45.25 mels on the slaney scale, of which 128 filters share 8 kHz.
    assert abs(brightest - 15 / 45.245 * 129) < 2.5


def test_chart_is_well_formed_and_skips_what_is_not_finite():
    points = [(s, float("inf") if s == 3 else 1.0 / (s + 1)) for s in range(2000)]
    chart = drawn(line_chart("A & B", {"<x>": points}, {"base": 1.5}))
    figure = ElementTree.fromstring(chart)
    line = figure.find(".//polyline").get("points").split()
    assert len(line) == 400 and "inf" not in chart and "nan" not in chart
    assert line_chart("empty", {"x": []}) is None


def test_chart_of_a_constant_line_has_a_height():
    figure = ElementTree.fromstring(drawn(line_chart("flat", {"x": [(0, 2.0), (5, 2.0)]})))
    heights = {point.split(",")[1] for point in figure.find(".//polyline").get("points").split()}
    assert len(heights) == 1 and 12 <= float(heights.pop()) <= 234


def test_linear_spectrogram_has_the_tone_at_its_place_and_silence_is_dark():
    from PIL import Image

    tone = 0.01 * np.sin(2 * np.pi * 2000 * np.arange(16000) / 16000).astype(np.float32)
    levels = np.asarray(Image.open(io.BytesIO(pictures.spectrogram(tone))))
    assert 256 - levels[:, 50].argmax() == 2000 * 512 / 16000 and levels.max() == 255
    assert np.asarray(Image.open(io.BytesIO(pictures.spectrogram(np.zeros(800, np.float32))))).max() < 40


@pytest.mark.parametrize("samples", [0, 1, 160, 511])
def test_clips_shorter_than_a_window_have_pictures(samples):
    from PIL import Image

    wave = np.full(samples, 0.5, np.float32)
    assert Image.open(io.BytesIO(pictures.spectrogram(wave))).size == (1 + samples // 160, 257)
    assert Image.open(io.BytesIO(pictures.mel_spectrogram(wave))).height == 128


def test_a_player_holds_the_clip_itself():
    import base64

    wave = np.linspace(-1.5, 1.5, 1600, dtype=np.float32)
    shown = recording(wave, "ramp", pictures.spectrogram)
    kind, _, data = shown.sound.partition(",")
    np.testing.assert_allclose(
        audio.decode_flac(base64.b64decode(data)), np.clip(wave, -1, 32767 / 32768), atol=1 / 32768
    )
    assert kind == "data:audio/flac;base64"
    assert recording(wave, "ramp", pictures.spectrogram, audible=False).sound == ""


def test_a_template_that_names_something_missing_is_an_error(tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="exhibits"):
        rendering.write_page(tmp_path / "page.html", "report.html.j2", title="x", runs=[])
    assert not list(tmp_path.iterdir())


def test_what_html_cannot_hold_is_shown_as_what_it_is(tmp_path):
    names = ("exhibits", "questions", "requests", "runs", "codebooks")
    content = {name: [] for name in names} | {"summary": "", "tables": {}}
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    path = rendering.write_page(
        tmp_path / "p.html", "report.html.j2", title=f"\0\x1b[31m\x7f\t{name}", **content
    )
    assert "<h1>␀␛[31m␡\tcaf\\udce9</h1>" in path.read_text(encoding="utf-8")
