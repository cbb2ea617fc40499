"""The journal: one writer, whole lines, and whatever a kill or a full disk leaves is read back."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bagpiper_jax.journal import Journal, JournalError, Results

LINES = [{"n": 1, "text": "one"}, {"n": 2, "text": "zwei \n„é“ \ud800"}, {}, {"n": [{"deep": None}]}]


def written(path, lines=LINES) -> list[int]:
    with Journal(path) as journal:
        places = [journal.append(line) for line in lines]
        journal.sync()
    return places


def read(path) -> list[dict]:
    with Journal(path) as journal:
        return [line for _, line in journal]


def test_what_is_appended_is_read_back_in_order_and_by_place(tmp_path):
    path = tmp_path / "new/journal.jsonl"
    places = written(path)
    assert read(path) == LINES and [json.loads(line) for line in path.read_bytes().splitlines()] == LINES
    with Journal(path) as journal:
        assert [journal.at(place) for place in places] == LINES == [line for _, line in journal]
        assert journal.at(journal.append({"n": 5})) == {"n": 5}
        journal.clear()
        assert list(journal) == [] and journal.at(journal.append({"n": 6})) == {"n": 6}


def test_every_length_of_a_cut_file_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "journal.jsonl"
    written(path)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        head = content[:length] + b"\n"  # a line that lacks nothing but its break is whole
        whole = [line for line in LINES if json.dumps(line).encode() + b"\n" in head]
        assert read(path) == whole
        written(path, [{"n": 7}])
        assert read(path) == [*whole, {"n": 7}], "nothing is glued to what was torn"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40)), st.binary(max_size=200_000))
def test_any_file_can_be_opened(tmp_path_factory, parts, tail):
    path = tmp_path_factory.mktemp("any") / "journal.jsonl"
    path.write_bytes(b"\n".join([*parts, b'{"n": 1}', tail]))
    assert {"n": 1} in read(path)
    written(path, [{"n": 2}])
    assert read(path)[-1] == {"n": 2}


def test_lines_that_are_no_object_are_told(tmp_path, caplog):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'[1]\n\xff\n{"n": 1}\n' + b"[" * 100_000 + b"\n")
    assert read(path) == [{"n": 1}] and "3 lines cannot be read" in caplog.text


CHILD = """
import sys
from bagpiper_jax.journal import Journal
with Journal(sys.argv[1]) as journal:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path):
    path = tmp_path / "journal.jsonl"
    command = [sys.executable, "-c", CHILD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "open\n"
        with pytest.raises(JournalError, match="in use by another process"):
            Journal(path)
        child.kill()
    Journal(path).close()


FULL = """
import resource, sys
from bagpiper_jax.journal import Journal, JournalError
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
with Journal(sys.argv[1]) as journal:
    journal.append({"n": 1})
    try:
        journal.append({"text": "x" * 1000})
    except JournalError as error:
        print(error)
    journal.append({"n": 2})
"""


def test_a_disk_that_takes_a_part_of_a_line_keeps_none_of_it(tmp_path):
    path = tmp_path / "journal.jsonl"
    result = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True)
    assert f"{path} cannot be written: File too large" in result.stdout, result.stderr
    assert read(path) == [{"n": 1}, {"n": 2}]


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="file/journal.jsonl cannot be opened: File exists"):
        Journal(tmp_path / "file/journal.jsonl")
    with pytest.raises(JournalError, match="cannot be opened: Is a directory"):
        Journal(tmp_path)


def test_results_are_found_by_key(tmp_path):
    path = tmp_path / "results.jsonl"
    with Results(path) as results:
        results.add("a", {"n": 1})
        results.add("b", {"n": 2})
        results.add("a", {"n": 3})
        results.sync()
        assert results.get("a") == {"n": 3} and results.get("c") is None
    with open(path, "ab") as file:
        file.write(b'{"key": "d"}\n{"value": 1}\n{"key": [], "value": 1}\n{"key": "e", "val')
    with Results(path) as results:
        assert (
            len(results) == 2
            and results.get("b") == {"n": 2}
            and results.get("d") is results.get("e") is None
        )
