"""seed-tts-eval and CV3-Eval give what the official scripts print, and say what is wrong with their files."""

import pytest
from known_evaluators import Known, Recogniser, Voices, installed, judged, write_sound
from official_scores import golden

from bagpiper_jax.evaluation.benchmarks import registry
from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError, MissingEvaluatorError
from bagpiper_jax.evaluation.benchmarks.protocol import Reply
from bagpiper_jax.outcomes import RecordError

GOLDEN = golden("seed_tts_eval")
READING = "wer_known"


def _open(folder, lines, tools=None, name="seed_tts"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.lst").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return registry.open_benchmark(name, folder, tools or Known())


def _replies(folder, ids):
    return {id: Reply(audio=write_sound(folder / f"{id}.wav", 0.1)) for id in ids}


def _scores(benchmark, replies):
    return {score.name: score for score in benchmark.official(judged(benchmark, replies))}


@pytest.mark.parametrize("case", GOLDEN["average"], ids=lambda case: case["name"])
def test_rates_and_their_mean_are_the_scripts(case, tmp_path):
    rows = [line.rstrip("\n").split("\t") for line in case["lines"]]
    language = "zh" if "chinese" in case["name"] else "en"
    heard = {f"u{number}": row[3] for number, row in enumerate(rows)}
    lines = [f"u{number}|prompt|p.wav|{row[2]}" for number, row in enumerate(rows)]
    benchmark = _open(tmp_path / language, lines, Known(whisper=Recogniser(heard)))
    replies = _replies(tmp_path, heard)
    found = [each.verdicts[READING].value for each in judged(benchmark, replies)]
    assert found == pytest.approx([float(row[1]) for row in rows], abs=1e-12)
    score = _scores(benchmark, replies)[READING]
    assert f"WER: {score.value}%" == case["result"]["last_line"] and score.unit == "%"


def test_lines_of_three_to_five_columns(tmp_path):
    case = GOLDEN["meta"][0]
    write_sound(tmp_path / "prompt-wavs/p2.wav")
    benchmark = _open(tmp_path, case["meta"].splitlines())
    items = {item.id: item for item in benchmark.items()}
    official = [row.split("|") for row in case["result"]["output"].splitlines()]
    for path, _, text in official:
        assert items[path.removeprefix("/g/").removesuffix(".wav")].asked.text == text
    assert [*items] == ["u1", "u2", "u3", "u4"] and items["u1"].asked.wants == "audio"
    assert [bool(item.record["voice"]) for item in items.values()] == [False, True, False, False]


@pytest.mark.parametrize("language, chosen", [("zh", "paraformer"), ("en", "whisper")])
def test_chinese_is_heard_by_paraformer_where_it_is_here(language, chosen, tmp_path):
    both = {"paraformer": Recogniser({"u": "好"}), "whisper": Recogniser({"u": "好"})}
    for name, each in both.items():
        each.name = name
    replies = _replies(tmp_path / "g", ["u"])
    for known in (Known(**both), Known(whisper=both["whisper"])):
        (each,) = judged(_open(tmp_path / language, ["u|said|p.wav|好"], known), replies)
        assert [*each.verdicts] == [f"wer_{chosen}"]
        chosen = "whisper"


def test_missing_sounds_are_left_out_and_counted(tmp_path):
    heard = {"u1": "target one", "u2": "nothing", "u3": "target three"}
    benchmark = _open(tmp_path, GOLDEN["meta"][0]["meta"].splitlines(), Known(whisper=Recogniser(heard)))
    replies = _replies(tmp_path / "g", heard) | {"u4": Reply(text="I cannot speak.")}
    scores = _scores(benchmark, replies)
    assert (scores[READING].value, scores[READING].scored, scores[READING].expected) == (33.333, 3, 4)
    assert scores[f"{READING}_of_all_words"].value == pytest.approx(100 * 2 / 6)
    assert scores[f"{READING}_above_half"].value == pytest.approx(100 / 3)
    assert benchmark.failed == 1.0, "honest scores take all words of what is missing for wrong"
    assert benchmark.recorded(tmp_path / "g").keys() == heard.keys()
    nothing = _scores(benchmark, {})["wer"]
    assert (nothing.value, nothing.scored, nothing.expected) == (None, 0, 4)


@pytest.mark.parametrize(
    "lines, said",
    [
        (GOLDEN["meta"][1]["meta"].splitlines(), "line 1 has 2 columns"),
        (GOLDEN["meta"][2]["meta"].splitlines(), "line 2 has 6 columns"),
        (["a|p|p.wav|one", "a|p|p.wav|two"], "a is there twice"),
        (["a|p|p.wav|..."], "a has no words"),
        ([], "it has no lines"),
    ],
)
def test_broken_lists_are_named(lines, said, tmp_path):
    with pytest.raises(BenchmarkError, match=said):
        _open(tmp_path, lines)


def test_faults_of_files_and_replies(tmp_path):
    with pytest.raises(BenchmarkError, match="is missing"):
        registry.open_benchmark("seed_tts", tmp_path / "none.lst", Known())
    benchmark = _open(tmp_path, ["a|p|p.wav|one"], Known(whisper=installed("whisper")))
    (item,) = benchmark.items()
    with pytest.raises(RecordError, match="no_audio"):
        benchmark.verdicts(item, Reply(text="one"))
    with pytest.raises(RecordError, match="audio_missing"):
        benchmark.verdicts(item, Reply(audio=tmp_path / "gone.wav"))
    with pytest.raises(MissingEvaluatorError, match="whisper is not here"):
        _open(tmp_path, ["a|p|p.wav|one"]).verdicts(item, Reply(audio=tmp_path / "gone.wav"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchmarkError, match="holds no sound"):
        benchmark.recorded(tmp_path / "empty")


def test_likeness_is_rounded_as_the_script_does(tmp_path):
    official = GOLDEN["sim"]
    likeness = {f"u{number}": value for number, value in enumerate(official["scores"])}
    write_sound(tmp_path / "p.wav")
    lines = [f"{id}|prompt|p.wav|one" for id in likeness]
    known = Known(whisper=Recogniser(dict.fromkeys(likeness, "one")), resemblyzer=Voices(likeness))
    replies = _replies(tmp_path / "g", likeness)
    score = _scores(_open(tmp_path, lines, known), replies)["sim_known"]
    assert f"ASV: {score.value}" == official["result"]["stdout"][0] and (score.scored, score.expected) == (
        5,
        5,
    )
    without = _scores(
        _open(tmp_path, lines, Known(whisper=Recogniser(dict.fromkeys(likeness, "one")))), replies
    )
    assert without["sim"].value is None and "resemblyzer is not here" in without["sim"].note


def _kaldi(folder, texts, prompts=""):
    folder.mkdir(parents=True)
    (folder / "text").write_text(texts, encoding="utf-8")
    if prompts:
        (folder / "prompt_wav.scp").write_text(prompts, encoding="utf-8")
    return folder


def test_cv3_reads_kaldis_files(tmp_path):
    write_sound(tmp_path / "hard_en/p.wav")
    (tmp_path / "hard_en/p.wav").rename(tmp_path / "p.wav")
    (tmp_path / "hard_en").rmdir()
    folder = _kaldi(
        tmp_path / "hard_en", 'a "He said ""no"" to me."\nb Plain words\n', f"a {tmp_path / 'p.wav'}\n"
    )
    heard = {"a": "he said no to me", "b": "plane words"}

    class Opinions:
        def opinions(self, path):
            return {"p808": {"a": 3.0, "b": 4.0}[path.stem]}

    known = Known(whisper=Recogniser(heard), dnsmos=Opinions(), eres2net=Voices({"a": 0.5}))
    benchmark = registry.open_benchmark("cv3", folder, known)
    assert [item.asked.text for item in benchmark.items()] == ['He said "no" to me.', "Plain words"]
    scores = _scores(benchmark, _replies(tmp_path / "g", heard))
    assert scores[READING].value == 25.0 and scores["dnsmos_p808"].value == 3.5
    assert (scores["sim_known"].value, scores["sim_known"].expected) == (0.5, 1)


def test_cv3_compares_japanese_by_characters(tmp_path):
    benchmark = registry.open_benchmark(
        "cv3", _kaldi(tmp_path / "to_ja", "a 今日は\n"), Known(whisper=Recogniser({"a": "今日 が"}))
    )
    (each,) = judged(benchmark, _replies(tmp_path / "g", ["a"]))
    assert each.item.groups == {"language": "ja"} and each.verdicts[READING].value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "folder, texts, said",
    [
        ("klingon", "a b\n", "must end in the language"),
        ("en", "a\n", "line 1: no value"),
        ("de", "a b\na c\n", "twice"),
    ],
)
def test_cv3_names_what_is_broken(folder, texts, said, tmp_path):
    with pytest.raises(BenchmarkError, match=said):
        registry.open_benchmark("cv3", _kaldi(tmp_path / folder, texts), Known())
    with pytest.raises(BenchmarkError, match="is missing"):
        registry.open_benchmark("cv3", tmp_path, Known())
