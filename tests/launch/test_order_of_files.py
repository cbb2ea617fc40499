"""The order in which a run's processes take the files of tests."""

import collections

from places import TESTS


def test_every_file_that_is_to_come_first_exists_and_is_named_once():
    named = (TESTS / "longest_files.txt").read_text(encoding="utf-8").split()
    assert not [name for name, count in collections.Counter(named).items() if count > 1]
    assert not [name for name in named if not (TESTS / name).is_file()]
