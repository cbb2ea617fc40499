"""Outcomes pass through bytes unchanged; whatever else stands in their place is refused."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagpiper_jax import outcomes
from bagpiper_jax.outcomes import Fatal, Kept, RecordError, Rejected, Skipped

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.one_of(
    st.builds(Kept), st.builds(Skipped, TEXT), st.builds(Fatal, TEXT), st.builds(Rejected, TEXT, TEXT, TEXT, TEXT)
))  # fmt: skip
def test_outcomes_pass_through_bytes(outcome):
    data = outcomes.encode(outcome)
    assert outcomes.decode(data) == outcome and bool(data) == (not isinstance(outcome, Kept))


@pytest.mark.parametrize(
    "data",
    [
        b"skipped x",
        b"[]",
        b"null",
        b'["Rejected"]',
        b'["Other", "x"]',
        b"\xff",
        b'{"a": 1}',
        b'["Kept", 1]',
        b"[[]]",
    ],
)
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match="no outcome"):
        outcomes.decode(data)


def test_half_a_surrogate_pair_does_not_stop_a_rejection():
    assert outcomes.decode(outcomes.encode(Rejected("bad_text", "\ud800"))).detail == "?"


def test_an_error_is_told_by_its_reason_or_its_type():
    error = RecordError("no_audio", "a.wav is gone", "copy it")
    assert Rejected.by(error, "x.tar: a") == Rejected("no_audio", "a.wav is gone", "copy it", "x.tar: a")
    assert str(Rejected.by(error, "x.tar: a")) == "x.tar: a: a.wav is gone (copy it)"
    assert str(Rejected.by(RecordError("no_messages"))) == "no_messages"
    assert Rejected.by(ZeroDivisionError("x")).counted_as == "rejected error_ZeroDivisionError"
    assert str(error) == "no_audio: a.wav is gone (copy it)" and str(RecordError("a", "b")) == "a: b"


def test_an_error_may_cross_to_another_process():
    error = RecordError("no_audio", "a.wav is gone", "copy it")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert vars(twin) == vars(error) and str(twin) == str(error)


def test_rejects_are_read_off_counts():
    counts = {
        each.counted_as: 2
        for each in (Kept(), Skipped("no_audio"), Rejected("torn"), Rejected("error_OSError"))
    }
    assert outcomes.rejected(counts) == {"torn": 2, "error_OSError": 2}
