"""Speech recognition: folders of LibriSpeech, Kaldi and ours; rates against golden pairs."""

import pytest
from official_results import NoTools, golden, judged, write_json

from bagpiper_jax.evaluation.benchmarks.asr import Asr
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.evaluation.benchmarks.registry import open_benchmark
from bagpiper_jax.manifest import Clip, write_manifest

_PAIRS = [pair for pair in golden("asr_wer")["pairs"] if pair["lang"] == "en"]


def _librispeech(root, name: str, *lines: str):
    """A set with one speaker and one chapter; what the golden references are is kept line by line."""
    chapter = root / name / "84" / "121123"
    chapter.mkdir(parents=True)
    text = "".join(f"84-121123-{n:04d} {line}\n" for n, line in enumerate(lines))
    (chapter / "84-121123.trans.txt").write_text(text, encoding="utf-8")
    return root / name


def _kaldi(folder, **files: str):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(content, encoding="utf-8")
    return folder


def test_golden_pairs_as_a_set_of_librispeech(tmp_path):
    _librispeech(tmp_path, "test-clean", *(pair["reference"] for pair in _PAIRS))
    benchmark = open_benchmark("asr", tmp_path, NoTools())
    items = list(benchmark.items())
    assert items[0].asked.clip == tmp_path / "test-clean" / "84" / "121123" / "84-121123-0000.flac"
    assert items[0].groups == {"set": "test-clean"} and len({item.cluster for item in items}) == 1
    replies = {item.id: Reply(pair["hypothesis"]) for item, pair in zip(items, _PAIRS, strict=True)}
    found = judged(benchmark, replies)
    scores = {(s.name, s.reading): s for s in benchmark.official(found)}
    results = golden("asr_wer")["results"]
    for reading in ("bare", "parsed"):
        total = results["qwen2_audio"]["total"]["en"]
        assert scores["wer", reading].value == pytest.approx(100 * total, abs=1e-12)
    total = results["audiobench"]["total_wer"]
    assert scores["wer", "audiobench"].value == pytest.approx(100 * total, abs=1e-12)
    for each, result in zip(found, results["qwen2_audio"]["pairs"], strict=False):
        assert each.verdicts["bare"].value == pytest.approx(result["wer"], abs=1e-12)
    rates = [pair["wer"] for pair in results["qwen2_audio"]["pairs"][: len(_PAIRS)]]
    assert scores["mean_utterance_wer", "bare"].value == pytest.approx(
        100 * sum(rates) / len(rates), abs=1e-12
    )


def test_captions_and_reasoning_are_no_words_of_the_transcript(tmp_path):
    _librispeech(tmp_path, "test-other", "HELLO THERE")
    benchmark = Asr(tmp_path / "test-other", NoTools())
    (item,) = benchmark.items()
    reply = Reply("Caption of the audio: A greeting.\n\n<think>\nshort\n</think>\n\nHello, there!")
    verdicts = benchmark.verdicts(item, reply)
    assert verdicts["parsed"].value == verdicts["plain"].value == 0 and verdicts["bare"].value > 1


def test_missing_replies_are_left_out_and_counted_apart(tmp_path):
    _librispeech(tmp_path, "test-clean", "ONE DOG", "TWO OLD DOGS", "RAIN")
    benchmark = Asr(tmp_path, NoTools())
    ids = [item.id for item in benchmark.items()]
    found = judged(benchmark, {ids[0]: Reply("one cat"), ids[2]: Reply("")})
    scores = {s.name: s for s in benchmark.official(found) if s.reading == "plain"}
    assert (scores["wer"].value, scores["wer"].scored, scores["wer"].expected) == (
        pytest.approx(200 / 3),
        2,
        3,
    )
    assert scores["mean_utterance_wer"].value == 75.0
    assert scores["wer_with_missing"].value == pytest.approx(500 / 6)


def test_kaldi_and_manifests_and_several_sets(tmp_path):
    _kaldi(tmp_path / "a", text="u1 so be it\nu2\n", wav_scp="u1 wav/1.wav\nu2 /x/2.flac\n", utt2spk="u1 s\n")
    annotation = {
        "duration": 2.0,
        "speakers": [{"id": "s"}],
        "turns": [
            {"speaker": "s", "start": 1.0, "end": 2.0, "text": "天气"},
            {"speaker": "s", "start": 0.0, "end": 1.0, "text": "今天", "language": "zh"},
        ],
    }
    (tmp_path / "b").mkdir()
    clips = [
        Clip("c1", "test", "speech", audio="audio/c1.flac", annotation=annotation, group="s"),
        Clip("c2", "test", "sound", audio="audio/c2.flac"),
    ]
    write_manifest(tmp_path / "b", clips)
    benchmark = Asr(tmp_path, NoTools())
    items = {item.id: item for item in benchmark.items()}
    assert list(items) == ["a_u1", "a_u2", "b_c1"]
    assert items["a_u1"].asked.clip == tmp_path / "a" / "wav" / "1.wav" and items["a_u1"].cluster == "a_s"
    assert str(items["a_u2"].asked.clip) == "/x/2.flac" and items["a_u2"].cluster == ""
    assert items["b_c1"].record == {"text": "今天 天气", "language": "zh"}
    assert benchmark.verdicts(items["b_c1"], Reply("今天天气"))["parsed"].value == 0
    assert benchmark.verdicts(items["a_u2"], Reply("noise"))["plain"].reason == "empty_reference"
    found = judged(benchmark, {"a_u1": Reply("so be it"), "b_c1": Reply("今天")})
    benchmark.write(tmp_path / "out.jsonl", found)
    assert benchmark.recorded(tmp_path / "out.jsonl") == {"a_u1": Reply("so be it"), "b_c1": Reply("今天")}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"text": "u1 a\n", "wav_scp": "u1 sox x.wav |\n"}, "'u1' is a command; run it"),
        ({"text": "u1 a\n", "wav_scp": "u2 x.wav\n"}, "has no line for 'u1'"),
        ({"text": "u1 a\nu1 b\n", "wav_scp": "u1 x.wav\n"}, "text:2: 'u1' is the id of line 1 too"),
        ({"text": "u1 a\n", "wav_scp": "u1 x.wav\n", "segments": "u1 r 0 1\n"}, "recordings must be cut"),
        ({"wav_scp": "u1 x.wav\n"}, "text cannot be read"),
    ],
)
def test_data_folders_of_kaldi_that_cannot_be_used(files, said, tmp_path):
    with pytest.raises(BenchmarkError, match=said):
        list(Asr(_kaldi(tmp_path / "a", **files), NoTools()).items())


def test_recordings_without_transcripts(tmp_path):
    write_manifest(tmp_path, [Clip("c", "test", "sound", audio="audio/c.flac")])
    with pytest.raises(BenchmarkError, match="holds recordings, but no transcripts; name a set"):
        Asr(tmp_path, NoTools())


def test_a_folder_without_recordings(tmp_path):
    write_json(tmp_path / "x.json", [])
    for place in (tmp_path, tmp_path / "none", tmp_path / "x.json"):
        with pytest.raises(BenchmarkError, match="holds no recordings with transcripts"):
            Asr(place, NoTools())
