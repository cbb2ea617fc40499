"""Building the Debian corpus: groups never straddle, faults are named, builds repeat."""

import collections
import gzip
import json

import numpy as np
import pytest
import soundfile
from debian_helpers import recording, tone, voice, write_g722

from bagpiper_jax import audio, configuration
from bagpiper_jax.captions import parse_caption
from bagpiper_jax.captions.annotation import AudioAnnotation
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.corpora import assembly, debian
from bagpiper_jax.corpora.assembly import CorpusError
from bagpiper_jax.corpora.debian import DebianCorpusConfig, packages, recordings, scores
from bagpiper_jax.corpora.debian import corpus as building
from bagpiper_jax.corpora.debian.packages import Package
from bagpiper_jax.jobs import build_corpus
from bagpiper_jax.manifest import read_manifest


def test_groups_never_straddle_and_voices_stay_whole():
    config = DebianCorpusConfig("unused", held_out=0.1)
    found = [
        recording(f"{s}-{g}-{i}", group=f"{s}/{g}", stratum=s)
        for s in "ab"
        for g in range(40)
        for i in range(g % 4 + 1)
    ]
    found += [recording(f"kit-{i}", group="a/kit", stratum="a") for i in range(60)]
    for folder, known in recordings.VOICES.items():
        group = f"speaker/{known.name}"
        found += [
            recording(f"{folder}-{i}", "speech", group=group, stratum="speech", voice=folder)
            for i in range(5)
        ]
    splits = building.assign_splits(found, config)
    assert set(splits) == {item.group for item in found}
    assert splits["a/kit"] == "train", "one big group must not be most of the held-out clips"
    for stratum in "ab":
        sizes = collections.Counter(splits[item.group] for item in found if item.stratum == stratum)
        total = sum(sizes.values())
        assert all(0.1 * total <= sizes[split] <= 0.1 * total + 4 for split in ("validation", "test")), sizes
    assert {splits[f"speaker/{v.name}"] for v in recordings.VOICES.values()} == {
        "train",
        "validation",
        "test",
    }
    assert all(splits[f"speaker/{v.name}"] == v.split for v in recordings.VOICES.values())


def test_prompts_can_be_held_out_instead():
    english = recording(
        "en-allison-digits-1", "speech", voice="en_US_f_Allison", language="en", group="speaker/allison"
    )
    french = recording(
        "fr-june-digits-1", "speech", voice="fr_CA_f_June", language="fr", group="speaker/june"
    )
    assert building._by_prompt(english).group == building._by_prompt(french).group == "prompt/digits-1"


@pytest.fixture
def small_packages(tmp_path, monkeypatch):
    """Two English prompts of which one has no words, and three sounds, as if unpacked from packages."""
    names = ("asterisk-core-sounds-en", "asterisk-core-sounds-en-g722", "minetest-data")
    roots = {name: Package(name, "1", f"sha-{name}", tmp_path / name) for name in names}
    for package in roots.values():
        package.copyright().parent.mkdir(parents=True)
        package.copyright().write_text(f"terms of {package.name}")
    doc = roots[names[0]].copyright().parent / "core-sounds-en.txt.gz"
    doc.write_bytes(gzip.compress(b"; comment\nhello: Hello there.\nsilence/1: (1 second of silence)\n"))
    folder = roots[names[1]].root / "usr/share/asterisk/sounds/en_US_f_Allison"
    write_g722(folder / "hello.g722", voice(1.0, 200.0))
    write_g722(folder / "silence" / "1.g722", tone(1.0))
    write_g722(folder / "unlisted.g722", tone(1.0))
    for name in ("fire_small", "default_dirt_footstep.1", "player_damage"):
        soundfile.write(
            roots[names[2]].root / f"{name}.ogg", tone(1.0), 16_000, format="OGG", subtype="VORBIS"
        )
    monkeypatch.setattr(packages, "obtain", lambda wanted, work: [roots[name] for name in wanted])
    return DebianCorpusConfig(
        str(tmp_path / "out"), ("en",), ("minetest-data",), tracks=False, num_scores=0, workers=1
    )


def test_a_small_build_ends_in_manifest_form_and_repeats(small_packages, monkeypatch):
    out = debian.build(small_packages)
    clips = list(read_manifest(out))
    assert {clip.id for clip in clips} == {
        "en-allison-hello",
        "minetest-fire_small",
        "minetest-default_dirt_footstep.1",
    }
    assert all(clip.licence and clip.group and clip.source for clip in clips) and not assembly.straddling(
        clips
    )
    speech = clips[0]
    assert '"Hello there."' in speech.caption and "female" in speech.caption
    assert AudioAnnotation.from_json(speech.annotation).turns[0].text == "Hello there."
    assert all(len(audio.read(out / clip.audio)) == round(clip.duration * 16_000) for clip in clips)
    reasons = collections.Counter(json.loads(line)["reason"] for line in (out / "rejects.jsonl").open())
    assert reasons == {"no_speech": 1, "no_transcript": 1, "unclear": 1}
    attribution = (out / "ATTRIBUTION.md").read_text()
    assert "CC-BY-3.0" in attribution and "sha-minetest-data" in attribution
    assert (out / "attribution" / "minetest-data.copyright").read_text() == "terms of minetest-data"
    before = {name: (out / name).read_bytes() for name in ("manifest.jsonl", "corpus.json", "rejects.jsonl")}
    monkeypatch.setattr(building, "process", lambda job: pytest.fail("finished work must not be done again"))
    debian.build(small_packages)
    assert {name: (out / name).read_bytes() for name in before} == before


def test_without_a_renderer_scores_are_counted_as_left_out(small_packages, monkeypatch):
    monkeypatch.setattr(scores, "available", lambda: "music21 not installed")
    out = debian.build(building.dataclasses.replace(small_packages, num_scores=7))
    reasons = [json.loads(line)["reason"] for line in (out / "rejects.jsonl").open()]
    assert reasons.count("no_renderer") == 7


def test_elsewhere_than_on_debian_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda tool: None)
    with pytest.raises(CorpusError, match="needs Debian or Ubuntu"):
        debian.build(DebianCorpusConfig(str(tmp_path)))


def test_an_archive_with_another_sha256_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda tool: tool)
    known = packages.KNOWN["minetest-data"]
    monkeypatch.setattr(packages, "_run", lambda command, folder: known.version)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "minetest-data_1_all.deb").write_bytes(b"tampered")
    with pytest.raises(CorpusError, match=f"known is {known.sha256}"):
        packages.obtain(["minetest-data"], tmp_path)


def test_a_failing_apt_names_the_remedy(tmp_path):
    if packages.shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    with pytest.raises(CorpusError, match="apt-get update"):
        packages.obtain(["no-such-package-at-all"], tmp_path)


def test_the_gin_file_gives_the_documented_corpus():
    flags = ["--gin_file=gin/corpora/debian.gin", "--gin.DebianCorpusConfig.hold_out=prompt"]
    config = configuration.load(build_corpus.BuildCorpusConfig, flags).corpus
    assert config == DebianCorpusConfig("corpora/debian", hold_out="prompt")
    assert set(config.package_names()) - {building.SOUNDFONT} == set(packages.KNOWN) - {building.SOUNDFONT}


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="languages: xx; known: en, es"):
        DebianCorpusConfig("d", languages=("xx",))
    with pytest.raises(ValueError, match="hold_out: clip"):
        DebianCorpusConfig("d", hold_out="clip")


@pytest.mark.slow
def test_a_real_build_of_one_package_and_a_few_scores(tmp_path):
    num_scores = 0 if scores.available() else 4
    config = DebianCorpusConfig(
        str(tmp_path), languages=(), sound_packages=("minetest-data",), tracks=False, num_scores=num_scores
    )
    try:
        out = debian.build(config)
    except CorpusError as error:
        if "apt-get" in str(error):
            pytest.skip(f"Debian packages cannot be downloaded here: {error}")
        raise
    clips = list(read_manifest(out))
    assert len(clips) >= 90 + num_scores and not assembly.straddling(clips)
    assert {clip.licence for clip in clips} <= {"CC-BY-SA-3.0", "CC-BY-3.0", "CC0-1.0", "GPL-2"}
    assert {clip.split for clip in clips} == {"train", "validation", "test"}
    for clip in clips:
        assert np.abs(audio.read(out / clip.audio)).max() > 0.001
        assert parse_caption(clip.caption).kinds == facts(AudioAnnotation.from_json(clip.annotation)).kinds
