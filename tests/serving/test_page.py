"""The page in a headless Chromium, against the real server: what it sends, shows, plays and says."""

import dataclasses
import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from devtools import COLOURS, PATIENCE, Chromium, answered, opened
from tiny_server import CONFIG, ENGINE, SETTINGS, file_of, running

from bagpiper_jax.audio import read, resample
from bagpiper_jax.dialogue import Message, render_prompt
from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.generation.streaming import AudioDelta, SegmentEnd, TextDelta
from bagpiper_jax.serving.sounds import RATE

# Text that is seen, with its contrast to what lies behind it: WCAG asks for 4.5.
CONTRASTS = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const linear = c => c <= 10 ? c / 255 / 12.92 : ((c / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const behind = e => {
    const colour = channels(getComputedStyle(e).backgroundColor);
    return colour[3] === 0 ? behind(e.parentElement) : colour;
  };
  return [...document.querySelectorAll("body *")]
    .filter(e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .map(e => [e.textContent.trim().slice(0, 30), light(channels(getComputedStyle(e).color)), light(behind(e))])
    .map(([text, a, b]) => [text, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]);
})()"""
NAMED = {"button", "textbox", "spinbutton", "radio", "radiogroup", "link", "image", "progressbar", "article"}
"""Roles that a screen reader announces by name."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def tab(chromium, served):
    with opened(chromium, served.url) as tab:
        tab.until("document.querySelector('#standing.ready')")
        yield tab
        assert not tab.faults


def same(shown: str, text: str) -> bool:
    """Whether texts are the same but for white space, which the page trims."""
    return "".join(shown.split()) == "".join(text.split())


def reply(server, dialogue, modalities):
    loop = dataclasses.replace(SETTINGS.loop, modalities=modalities, max_segments=len(modalities))
    (found,) = server.generator.reply([dialogue], loop)
    return found


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def wav(path: Path, seconds: float = 0.7) -> Path:
    samples = np.random.default_rng(0).normal(0, 0.2, int(16_000 * seconds)).clip(-1, 1).astype(np.float32)
    path.write_bytes(file_of(samples))
    return path


def test_a_clip_is_drawn_captioned_and_asked_about(tab, served, tmp_path):
    clip = wav(tmp_path / "noise.wav")
    tab.choose(clip)
    answered(tab, "listen")
    heard = Message("user", "audio", read(clip))
    # To the letter, so the samples that the model heard are those of the file.
    assert same(tab.text("#listen .turn .content"), reply(served, [heard], ("text",)).text)
    assert tab.text("#listen figcaption") == "noise.wav, 0.7 s"
    assert tab.js(f"{COLOURS}(document.querySelector('#listen canvas'))") > 50
    tab.write("#question", "Who speaks?")
    tab.press("Enter")
    answered(tab, "listen", 2)
    asked = reply(served, [heard, Message("user", "text", "Who speaks?")], ("text",))
    assert tab.text("#listen .turn:last-child h3") == "Who speaks?"
    assert same(tab.text("#listen .turn:last-child .content"), asked.text)
    assert same(tab.text("#listen .spoken"), asked.text)


def test_a_real_clip_is_dropped(tab, served, demo_clips):
    (clip, *_) = sorted(demo_clips.glob("audio/understanding_speech*.wav"))
    x, y = tab.js("(r => [r.x + 20, r.y + 20])(document.querySelector('.drop').getBoundingClientRect())")
    data = {"items": [], "files": [str(clip)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        tab.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)
    answered(tab, "listen")
    expected = reply(served, [Message("user", "audio", read(clip))], ("text",))
    assert same(tab.text("#listen .turn .content"), expected.text)


def test_sound_plays_while_it_is_made_and_can_be_kept(tab, chromium, served, tmp_path):
    tab.write("#request", "rain")
    tab.press("Enter", "#make [type=submit]")
    answered(tab, "make")
    asked = [Message("system", "text", "Compose with care."), Message("user", "text", "rain")]
    expected = reply(served, asked, ("text", "audio"))
    made = resample(expected.audio, 16_000, RATE)
    assert same(tab.text("#make .turn .content"), expected.text)
    assert tab.js(f"{COLOURS}(document.querySelector('#make canvas'))") > 50
    scheduled = tab.js("scheduled")
    assert scheduled[0]["early"] and len(scheduled) > 2
    np.testing.assert_allclose(np.concatenate([each["samples"] for each in scheduled]), made, atol=2e-4)
    for before, after in itertools.pairwise(scheduled):  # no sample is played over another
        assert after["at"] - before["at"] > len(before["samples"]) / RATE - 1e-9
    tab.until("document.querySelector('#make .pause').hidden")
    assert tab.text("#make figcaption") == f"{len(made) / RATE:.1f} s"
    tab.until("document.querySelector('#make audio').duration > 0")
    chromium.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.press("Enter", "#make .download")
    kept = tmp_path / "bagpiper.wav"
    until(kept.exists)
    samples, rate = soundfile.read(kept, dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(samples, np.concatenate([each["samples"] for each in scheduled]), atol=1e-6)


def test_stopping_frees_the_model(chromium, generator):
    loop = dataclasses.replace(SETTINGS.loop, text=SamplingConfig(0.9, 0, 1, 900, 900))
    with Engine(generator, ENGINE) as engine:
        with running(generator, dataclasses.replace(SETTINGS, loop=loop), engine) as server:
            with opened(chromium, server.url) as tab:
                tab.until("document.querySelector('#standing.ready')")
                # As soon as there is a word: whoever waits for the page's answer may be too late.
                tab.js("""new MutationObserver((_, it) => {
                  if (!document.querySelector("#make .content")) return;
                  it.disconnect();
                  window.first = document.querySelector("#make .content").textContent;
                  document.querySelector("#make .stop").click();
                }).observe(document.querySelector("#make .turns"), {subtree: true, childList: true})""")
                tab.write("#request", "rain")
                tab.press("Enter", "#make [type=submit]")
                tab.until("window.first !== undefined")
                answered(tab, "make")
                assert same(tab.text("#make .turn"), f"What it makes{tab.js('first')}Stopped.")
                assert not tab.text("#make .fault") and not tab.faults
                until(lambda: not engine.active and not engine.waiting)
                assert tab.js("document.activeElement.matches('#make [type=submit]')")


class Script:
    """A stream of the engine whose events are written down; an exception ends it."""

    prompt = render_prompt([Message("user", "text", np.arange(4))], CONFIG.vocabulary)

    def __init__(self, *events):
        self._events = iter(events)

    def __aiter__(self):
        return self

    async def __anext__(self):
        event = next(self._events, StopAsyncIteration())
        if isinstance(event, Exception):
            raise event
        return event

    def cancel(self):
        pass


def test_reasoning_stands_apart(tab, engine, monkeypatch):
    tone = np.sin(np.arange(16_000) / 9).astype(np.float32)
    said = ("<think>\nplan ", "well\n</think>\n\nRain ", "falls.")
    events = [
        *(TextDelta(0, text) for text in said),
        SegmentEnd(0, "text", True),
        AudioDelta(1, tone),
        SegmentEnd(1, "audio", False),
    ]
    monkeypatch.setattr(engine, "submit", lambda *_, **__: Script(*events))
    tab.write("#request", "rain")
    tab.press("Enter", "#make [type=submit]")
    answered(tab, "make")
    assert tab.text("#make .reasoning p") == "plan well"
    assert tab.text("#make .content") == "Rain falls."
    assert tab.text("#make .turn > .note") == "Cut off: it reached the longest that is allowed."
    assert tab.js("document.querySelector('#make .reasoning').open") is False
    tab.press("Enter", "#make summary")
    assert tab.js("document.querySelector('#make .reasoning').open") is True


def test_a_finished_caption_is_sent_as_what_the_model_has_written(tab, engine, monkeypatch):
    asked = {}

    def submit(dialogue, loop, **more):
        asked.update(dialogue=dialogue, loop=loop, **more)
        return Script(AudioDelta(0, np.zeros(16_000, np.float32)), SegmentEnd(0, "audio", True))

    monkeypatch.setattr(engine, "submit", submit)
    for name, value in {"seed": "7", "guidance": "2.5", "temperature": "0.25", "max_seconds": "0.5"}.items():
        tab.write(f"#settings [name={name}]", value)
    tab.press(" ", "[value=caption]")
    tab.write("#request", "Rain.")
    tab.press("Enter", "#make [type=submit]")
    answered(tab, "make")
    loop = asked["loop"]
    assert asked["begun"] == "Rain." and loop.modalities == ("text", "audio")
    assert loop.seed == 7 and loop.text.temperature == 0.25 and loop.audio.guidance == 2.5
    assert loop.audio.max_steps < SETTINGS.loop.audio.max_steps


def test_what_is_wrong_is_said_in_words(tab, engine, monkeypatch, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and nothing else")
    tab.choose(broken)
    tab.until("document.querySelector('#listen .fault').textContent")
    assert tab.text("#listen .fault").startswith("broken.wav is no sound that this browser can read; try WAV")
    monkeypatch.setattr(engine, "submit", lambda *_, **__: Script(TextDelta(0, "Ra"), RuntimeError("secret")))
    tab.write("#request", "rain")
    tab.press("Enter", "#make [type=submit]")
    answered(tab, "make")
    assert tab.text("#make .fault") == "the server failed; its log says how"
    assert tab.text("#make .content") == "Ra"


def test_a_refusal_is_told_and_a_key_is_asked_for(chromium, generator, engine, tmp_path):
    with running(generator, engine=engine, key="right") as server, opened(chromium, server.url) as tab:
        tab.until("document.querySelector('#standing.faulty')")
        assert tab.text("#standing") == "The API key is missing or wrong; enter it under Settings."
        tab.write("[name=key]", "right")
        tab.press("Enter")
        tab.until("document.querySelector('#standing.ready')")
        assert tab.js("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0
        tab.choose(wav(tmp_path / "long.wav", 31))
        answered(tab, "listen")
        assert "too_long" in tab.text("#listen .fault")
        assert not [fault for fault in tab.faults if "status of 40" not in fault.get("text", "")]


def test_the_microphone_is_a_clip(tab):
    tab.press("Enter", ".record")
    tab.until("parseFloat(document.querySelector('.level span').textContent) > 0.5")
    assert tab.text(".record") == "Stop recording"
    tab.press("Enter")
    answered(tab, "listen")
    assert tab.text("#listen figcaption").startswith("the recording, ") and tab.text(".record") == "Record"
    assert tab.js(f"{COLOURS}(document.querySelector('#listen canvas'))") > 50
    assert tab.text("#listen .turn .content")


def test_keyboard_reaches_everything_in_order_and_shows_where_it_is(tab):
    order, seen = [], "(e => (e.matches('.unseen') ? e.nextElementSibling : e))(document.activeElement)"
    for _ in range(13):
        tab.press("Tab")
        order.append(tab.js("(e => e.id || e.name || e.textContent)(document.activeElement)"))
        assert tab.js(f"getComputedStyle({seen}).outlineStyle") == "solid", order
    settings = "temperature audio_temperature guidance top_k seed max_completion_tokens max_seconds key"
    assert order == ["file", "Record", "request", "given", "Make sound", *settings.split()]


def test_everything_has_a_name_is_legible_and_fits_a_phone(tab, tmp_path):
    tab.choose(wav(tmp_path / f"{'long_name_' * 12}.wav"))
    answered(tab, "listen")
    tab.press("Enter", "#listen .turn button")
    assert tab.js("document.activeElement.id == 'request' && document.activeElement.value.length > 0")
    tab.press("Enter", "#make [type=submit]")
    answered(tab, "make")
    nodes = [node for node in tab.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    found = [(node["role"]["value"], node["name"]["value"].strip()) for node in nodes]
    controls = [(role, name) for role, name in found if role in NAMED]
    assert {"button", "textbox", "spinbutton", "radio", "article"} <= {role for role, _ in controls}
    assert all(name for _, name in controls), controls
    for width in (1280, 768, 360):
        tab.size(width)
        assert tab.js("innerWidth") == width
        assert tab.js("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    for scheme in ("light", "dark"):
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        pale = [(text, ratio) for text, ratio in tab.js(CONTRASTS) if ratio < 4.5]
        assert not pale, (scheme, pale)
