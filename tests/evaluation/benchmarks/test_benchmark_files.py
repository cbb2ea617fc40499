"""Files of benchmarks that are not what they should be, and names of benchmarks."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from official_results import NoTools, RuleJudge, golden, write_json

from bagpiper_jax.evaluation.benchmarks.faults import BenchmarkError
from bagpiper_jax.evaluation.benchmarks.mmau import Mmau
from bagpiper_jax.evaluation.benchmarks.protocol import Judged, Reply
from bagpiper_jax.evaluation.benchmarks.records import read_records
from bagpiper_jax.evaluation.benchmarks.registry import names, open_benchmark

_FILES = {
    "mmau": "mmau-test-mini.json", "mmar": "MMAR-meta.jsonl", "air_bench_foundation": "Foundation_meta.json",
    "air_bench_chat": "Chat_meta.json", "open_qa": "own_qa.jsonl",
}  # fmt: skip
_WHOLE = {
    "id": "a", "uniq_id": 1, "audio_id": "a.wav", "audio_path": "a.wav", "path": "a.wav", "audio": "a.wav",
    "question": "q", "instruction": "q", "reference": "r", "choices": ["yes", "no"], "answer": "yes", "task": "sound",
    "difficulty": "easy", "modality": "sound", "category": "Signal Layer", "sub-category": "s",
    "rubric": [{"name": "n", "choices": [0, 1]}], "task_name": "sound_QA", "dataset_name": "d",
    "choice_a": "yes", "choice_b": "no",
    "choice_c": None, "answer_gt": "yes", "meta_info": "m",
}  # fmt: skip
"""A record with the fields of all benchmarks."""

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_RECORD = golden("mmau")["files"][0]["records"][0]
_OURS = ("mmau", "mmar", "air_bench_foundation", "air_bench_chat", "open_qa", "asr")


@pytest.mark.parametrize("name", _OURS)
def test_every_benchmark_says_which_files_it_misses(name, tmp_path):
    assert name in names()
    with pytest.raises(BenchmarkError, match="holds no .*; name "):
        open_benchmark(name, tmp_path, NoTools())


def test_names_that_no_benchmark_has(tmp_path):
    with pytest.raises(BenchmarkError, match="no benchmark 'mmau2'; there are .*mmau"):
        open_benchmark("mmau2", tmp_path, NoTools())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no JSON"), (b"[", "is no JSON"), (b"[]", "must be a list of records"), (b"{}", "must be a list"),
        (b"[1]", "record 1: a record must be an object"), (b'[{"id": "a", "id": "b"}]', "stands twice"),
        (b'[{"id": NaN}]', "NaN is not JSON"), (b'[{"id": "\xff"}]', "is no JSON"),
    ],
)  # fmt: skip
def test_lists_that_are_none(content, said, tmp_path):
    path = tmp_path / "mmau-test-mini.json"
    path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=said) as caught:
        list(Mmau(tmp_path, NoTools()).items())
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"{}\nx\n", ":2: no JSON"), (b"\n", "holds no records"), (b"1", ":1:")]
)
def test_lines_that_are_none(content, said, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=said):
        read_records(path)


def test_a_byte_order_mark_and_blank_lines_are_no_faults(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a"}\r\n\n{"id": "b"}')
    assert [(record.fields["id"], record.place) for record in read_records(path)] == [
        ("a", f"{path}:1"),
        ("b", f"{path}:3"),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": None}, "'id' must be a string, but is None"), ({"id": 7}, "'id' must be a string, but is 7"),
        ({"choices": "Violin"}, "'choices' must be a list of at least 2 strings"),
        ({"choices": ["Violin"]}, "at least 2 strings"), ({"choices": ["Violin", None]}, "at least 2 strings"),
        ({"answer": None}, "'answer' must be a string, but is None"), ({"question": []}, "'question' must be a string"),
        ({"audio_id": None}, "'audio_id' must be a string"), ({"difficulty": "odd"}, "'difficulty' is 'odd'"),
        ({"sub-category": ["x"]}, "'sub-category' must be a string"),
    ],
)  # fmt: skip
def test_records_that_cannot_be_used_are_named(change, said, tmp_path):
    write_json(tmp_path / "mmau-test-mini.json", [_RECORD | {"id": "fine"}, _RECORD | change])
    with pytest.raises(BenchmarkError, match=said) as caught:
        list(Mmau(tmp_path, NoTools()).items())
    assert "mmau-test-mini.json, record 2" in str(caught.value) and "mend the record" in str(caught.value)


@pytest.mark.parametrize("name", _FILES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(sorted(_WHOLE)), _JSON, min_size=1, max_size=3))
@example(changes={"rubric": 1})
def test_whatever_a_record_holds_it_is_an_item_or_named(name, tmp_path, changes):
    write_json(tmp_path / _FILES[name], [_WHOLE | changes])
    judge = RuleJudge(lambda item, stage: "5")
    benchmark = open_benchmark(name, tmp_path, judge)
    try:
        (item,) = benchmark.items()
    except BenchmarkError as error:
        assert _FILES[name] in str(error) and "mend the record" in str(error)
    else:
        reply = Reply("<think>hm</think>yes")
        benchmark.official([Judged(item, reply, benchmark.verdicts(item, reply))])


@pytest.mark.parametrize("missing", ["id", "choices", "answer", "question", "audio_id", "task"])
def test_fields_that_are_missing_are_named(missing, tmp_path):
    record = {name: value for name, value in _RECORD.items() if name != missing}
    write_json(tmp_path / "mmau-test-mini.json", [record])
    with pytest.raises(BenchmarkError, match=f"'{missing}'"):
        list(Mmau(tmp_path, NoTools()).items())


def test_ids_that_stand_twice_are_named(tmp_path):
    path = write_json(tmp_path / "mmau-test-mini.json", [_RECORD, _RECORD])
    benchmark = Mmau(tmp_path, NoTools())
    with pytest.raises(BenchmarkError, match="the id 'own-001' is that of .*record 1"):
        list(benchmark.items())
    assert benchmark.recorded(path).keys() == {"own-001"}  # the same prediction twice is one
    write_json(path, [_RECORD, _RECORD | {"model_output": "Cello"}])
    with pytest.raises(BenchmarkError, match="another reply already"):
        benchmark.recorded(path)


def test_predictions_that_are_no_text_are_faults_of_their_items(tmp_path):
    path = write_json(
        tmp_path / "p.json", [_RECORD | {"model_output": 3}, _RECORD | {"id": "b", "model_output": None}]
    )
    benchmark = Mmau(path, NoTools())
    assert {id: reply.fault for id, reply in benchmark.recorded(path).items()} == {
        "own-001": "malformed_reply",
        "b": "null_reply",
    }


def test_a_revision_that_is_not_named_is_noted(tmp_path):
    write_json(tmp_path / "mmau-test-mini.json", [_RECORD])
    assert "is not that of v05.15.25" in Mmau(tmp_path, NoTools()).official([])[-1].note
