"""Damaged dialogues, features, records, locks and code stores: refused under a name, or taken as exactly what they say.

Where bytes are protected by a checksum, the value must be the original one.
"""

import dataclasses
import json
import pickle
import re
import struct

import fuzzing
import numpy as np
import pytest
from fuzzing import Tally, damage, disturb, generator, is_sound, line, pick, same, strict
from synthetic_cache import CODES, LIMITS, STREAMS, VOCABULARY, dialogue_of, example
from task_helpers import write_codes

from bagpiper_jax import dialogue
from bagpiper_jax.data import codes, records
from bagpiper_jax.data.cache import CacheError
from bagpiper_jax.data.lock import Lock, LockedTask, read_lock, write_lock
from bagpiper_jax.data.records import Record
from bagpiper_jax.dialogue import DIRECTIONS
from bagpiper_jax.outcomes import RecordError


def test_dialogues_of_wrong_arrays():
    cases, tally = 100, Tally()
    for number in range(cases):
        rng = generator("dialogue", number)
        content = {
            "text": rng.integers(0, 256, int(rng.integers(1, 9))).astype(np.int32),
            "audio": rng.integers(0, CODES, (int(rng.integers(1, 6)), STREAMS)).astype(np.int32),
        }
        kind = pick(rng, ["text", "audio"])
        faulty = fuzzing.array(content[kind], rng) if number % 4 else content[kind]
        weight = pick(rng, [1.0, 1.0, 0.5, np.nan, -1.0, np.inf])
        messages = [
            dialogue.Message("user", "text", content["text"]),
            dialogue.Message("assistant", kind, faulty, weight),
        ]
        try:
            rendered = dialogue.render(messages, VOCABULARY)
        except dialogue.DialogueError as error:
            assert "message 1 (assistant" in str(error), number
            tally.counts["refused"] += 1
            continue
        (_, _, first), (_, _, second) = dialogue.parse(rendered.tokens, VOCABULARY)
        np.testing.assert_array_equal(first, content["text"])
        np.testing.assert_array_equal(second, faulty, err_msg=str(number))
        assert np.isfinite(rendered.loss_weights).all() and rendered.loss_weights.min() >= 0, number
        tally.counts["kept"] += 1
    tally.check(cases)


def test_features_of_a_task():
    """What a task hands to the cache writer ends as the same numbers in the record, or as a named rejection."""
    cases, tally = 150, Tally()
    for number in range(cases):
        rng = generator("features", number)
        features = example(dialogue_of(pick(rng, DIRECTIONS), rng), "clip")
        name = pick(rng, records.FEATURE_KEYS)
        if name != "audio":
            features[name] = fuzzing.array(features[name], rng) if number % 4 else features[name]
        else:
            features[name] = pick(
                rng, [5, "text", b"", None, np.zeros(4), damage(features[name] or b"x", rng)]
            )
        try:
            record = Record.from_example(features, "clip")
            records.validate(record, LIMITS.text_size, LIMITS.codebook_size, LIMITS.num_streams)
            again = records.decode(records.encode(record), record.audio)
            messages = again.messages()
        except RecordError as error:
            assert re.fullmatch(r"[a-z_]+", error.reason), (number, name)
            tally.counts[error.reason] += 1
            continue
        columns = {"msg_role": "role", "msg_modality": "modality", "msg_start": "start", "msg_len": "length",
                   "msg_weight": "weight", "msg_variant": "variant", "text": "text", "codes": "codes"}  # fmt: skip
        for feature, column in columns.items():
            np.testing.assert_array_equal(
                getattr(again, column), features[feature], err_msg=f"{number} {feature}"
            )
        assert again.audio == features["audio"] and len(messages) == len(features["msg_role"])
        tally.counts["kept"] += 1
    tally.check(cases)


def test_bytes_of_records():
    """Without the container's checksum: what is decoded is what the bytes say, down to the last one."""
    cases, tally = 200, Tally()
    for number in range(cases):
        rng = generator("record", number)
        whole = records.encode(Record.from_example(example(dialogue_of("generation", rng)), "clip-é"))
        data = damage(whole, rng)
        try:
            record = records.decode(data)
        except RecordError as error:
            assert error.reason == "corrupt_record", number
            tally.counts[error.reason] += 1
            continue
        assert records.encode(record) == data, number
        try:
            messages = record.messages()
        except RecordError:
            tally.counts["corrupt messages"] += 1
            continue
        assert sum(len(m.content) for m in messages if m.modality == "text") <= len(record.text), number
        assert all(0 <= start for start in record.start.tolist()), number
        tally.counts["kept"] += 1
    tally.check(cases)


def test_locks(tmp_path):
    task = LockedTask("t", 1.0, "t/train/0", "0" * 64, 9, "text_only")
    write_lock(tmp_path / "good", Lock("m", "examples", "byte", 256, "c", 64, 8, 512, {"train": (task,)}))
    good = json.loads((tmp_path / "good").read_text())
    cases, tally, path = 120, Tally(), tmp_path / "m.lock.json"
    for number in range(cases):
        rng = generator("lock", number)
        path.write_bytes(line(disturb(good, rng) if rng.integers(3) else good, rng))
        try:
            lock = read_lock(path)
        except CacheError as error:
            assert "m.lock.json" in str(error) and "cache_tasks" in str(error), (number, error)
            tally.counts["refused"] += 1
            continue
        said = strict(path.read_bytes())
        assert is_sound(said) and same(
            {"format": 1, **dataclasses.asdict(lock)}, {"system_prompt": "", **said}
        )
        assert all(type(t.rate) in (int, float) and t.rate > 0 for t in lock.splits.get("train", ())), number
        tally.counts["kept"] += 1
    tally.check(cases)


def test_code_stores(tmp_path):
    rng = np.random.default_rng(0)
    made = [rng.integers(0, CODES, (5, STREAMS)).astype(np.uint16) for _ in range(3)]
    codes.write_shard(tmp_path / "whole.npz", ["a", "b", "é"], made, STREAMS)
    whole, expected = (tmp_path / "whole.npz").read_bytes(), codes.read_shard(tmp_path / "whole.npz")
    cases, tally, path = 600, Tally(), tmp_path / "damaged.npz"
    for number in range(cases):
        path.write_bytes(damage(whole, generator("codes", number)) if number % 2 else _flipped(whole, number))
        try:
            found = codes.read_shard(path)
        except codes.CodeStoreError as error:
            assert "damaged.npz" in str(error), number
            tally.counts["refused"] += 1
            continue
        assert found[0] == expected[0], number
        for one, two in zip(found[1:], expected[1:], strict=True):
            assert one.dtype == two.dtype, number
            np.testing.assert_array_equal(one, two, err_msg=str(number))
        tally.counts["kept"] += 1
    tally.check(cases)


def _flipped(whole: bytes, number: int) -> bytes:
    """One bit of zip's directory at the end or of one of its headers, whose fields zipfile trusts."""
    rng, data = generator("header", number), bytearray(whole)
    starts = [m.start() for m in re.finditer(rb"PK[\x01-\x06][\x01-\x06]", whole)]
    data[min(pick(rng, starts) + int(rng.integers(50)), len(data) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def test_shards_of_other_arrays_are_refused(tmp_path):
    ids, offsets, values = np.array(["a", "b"]), np.array([0, 1, 2]), np.zeros((2, STREAMS), np.uint16)
    good, path = {"ids": ids, "offsets": offsets, "codes": values}, tmp_path / "x.npz"
    np.savez(path, **good)
    assert codes.read_shard(path)[0] == ["a", "b"]
    wrong = [
        {"ids": np.array(["a", None], object)}, {"ids": np.array([1, 2])}, {"ids": np.array("a")}, {"ids": ids[:1]},
        {"offsets": np.array([0.0, 1, 2])}, {"offsets": np.array([0, 2, 1])}, {"offsets": np.array([0, 1, 3])},
        {"offsets": np.array([-1, 1, 2])}, {"offsets": np.array(0)}, {"codes": values.astype(np.float32)},
        {"codes": values[0]}, {"codes": values.astype(object)}, {"codes": values[..., None]}, {"ids": None},
    ]  # fmt: skip
    for change in wrong:
        np.savez(path, **{name: value for name, value in (good | change).items() if value is not None})
        with pytest.raises(codes.CodeStoreError, match=r"x.npz is damaged \(.*run tokenize_audio again"):
            codes.read_shard(path)
    np.save(tmp_path / "x.npz.npy", values)
    for data in (b"", b"PK", (tmp_path / "x.npz.npy").read_bytes(), pickle.dumps([1])):
        path.write_bytes(data)
        with pytest.raises(codes.CodeStoreError, match="x.npz is damaged"):
            codes.read_shard(path)


@pytest.fixture
def store(tmp_path):
    """The folder of a finished code store of corpus `tmp_path`, and its manifest."""
    write_codes(tmp_path, {"a": 2, "b": 3}, "f00")
    folder = codes.store_directory(tmp_path, "f00")
    return folder, json.loads((folder / codes.MANIFEST).read_text())


def test_manifests_of_code_stores(tmp_path, store):
    folder, good = store
    cases, tally, path = 300, Tally(), folder / codes.MANIFEST
    for number in range(cases):
        rng = generator("codes manifest", number)
        path.write_bytes(line(disturb(good, rng) if rng.integers(4) else good, rng))
        try:
            found = codes.CodeStore.open(tmp_path, "f00")
        except codes.CodeStoreError as error:
            assert str(folder) in str(error) and "tokenize_audio" in str(error), (number, error)
            tally.counts["refused"] += 1
            continue
        said = strict(path.read_bytes())
        assert said["fingerprint"] == "f00" and said["clips"] == 2 == len(found), number
        tally.counts["kept"] += 1
    tally.check(cases)


@pytest.mark.parametrize(
    "text",
    [b"[]", b"null", b"7", b"\xff\xfe", b"[" * 100_000, b"{}", b"", b'{"fingerprint": null}'],
)
def test_manifests_of_other_forms_are_refused(tmp_path, store, text):
    (store[0] / codes.MANIFEST).write_bytes(text)
    with pytest.raises(
        codes.CodeStoreError, match=f"{store[0]}/manifest.json is damaged .*run tokenize_audio again"
    ):
        codes.CodeStore.open(tmp_path, "f00")


@pytest.mark.parametrize(
    "change",
    [{"clips": 2.0}, {"clips": True}, {"clips": None}, {"clips": -1}, {"shards": []}, {"shards": None}, {"config": []},
     {"shards": {"../../secret.npz": "0"}}, {"shards": {"/etc/passwd": "0"}}, {"config": {"codebook_size": 1024}},
     {"config": {"codebook_size": 0, "num_codebooks": 8}}, {"config": {"codebook_size": 1.5, "num_codebooks": 8}},
     {"audio": 7}, {"config": {"codebook_size": 1024, "num_codebooks": 4}}, {"clips": 3}],
    ids=str,
)  # fmt: skip
def test_manifests_with_wrong_fields_are_refused(tmp_path, store, change):
    folder, good = store
    (folder / codes.MANIFEST).write_text(json.dumps(good | change))
    with pytest.raises(codes.CodeStoreError, match="run tokenize_audio again"):
        codes.CodeStore.open(tmp_path, "f00")


@pytest.mark.parametrize(
    "header",
    [b"[]", b"null", b"[" * 100_000, b'{"__metadata__": null}', b'{"__metadata__": {"fingerprint": 7}}', b"\xff",
     b'{"__metadata__": {"fingerprint": "../../x"}}', b'{"__metadata__": []}', b"{}", b""],
)  # fmt: skip
@pytest.mark.parametrize("length", [None, 0, 2**63, 2**64 - 1, 10**9])
def test_headers_of_codec_files(tmp_path, header, length):
    path = tmp_path / "codec.safetensors"
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)
    with pytest.raises(codes.CodeStoreError, match="codec.safetensors is not a codec file"):
        codes.codec_fingerprint(path)
