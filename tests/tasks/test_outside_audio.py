"""Dialogues reach no file outside their source, however they name it."""

import numpy as np
import pytest
from task_helpers import cached, said
from written_sources import as_json, sound, write_table, write_tar

from bagpiper_jax import audio
from tasks import sft
from tasks.file_sources import ParquetSource, TarSource


@pytest.fixture
def outside(tmp_path):
    """A data root beside a sound file that no data set may reach, and the ways to name it."""
    root = tmp_path / "data"
    (root / "talk").mkdir(parents=True)
    audio.write(tmp_path / "secret.flac", sound(9))
    audio.write(root / "other.flac", sound(8))
    audio.write(root / "talk/inside.flac", sound(7))
    (root / "talk/link.flac").symlink_to(tmp_path / "secret.flac")
    (root / "talk/folder").symlink_to(tmp_path)
    return root


WAYS_OUT = ["{up}/secret.flac", "../../secret.flac", "../other.flac", "link.flac", "folder/secret.flac",
            "./x/../../../secret.flac", "folder/../secret.flac", "x\0.flac"]  # fmt: skip


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("kind", ["tar", "table"])
def test_dialogues_reach_no_file_outside_their_source(outside, way, kind):
    def turns(name):
        return [["user", "audio", name], ["user", "text", "What?"], ["assistant", "text", "Noise."]]

    named = way.format(up=outside.parent)
    rows = [{"id": "bad", "dialogue": turns(named)}, {"id": "good", "dialogue": turns("inside.flac")}]
    if kind == "tar":
        write_tar(outside / "talk/x.tar", [(f"{row['id']}.json", as_json(**row)) for row in rows])
        source = TarSource("talk", {"train": "x.tar"})
    else:
        write_table(outside / "talk/x.parquet", rows)
        source = ParquetSource("talk", {"train": "x.parquet"})
    cache, rejects = cached(outside, source, sft.understanding, splits=("train",))
    assert list(said(cache)) == ["good"]
    ((reason, detail),) = rejects.values()
    assert reason in ("outside_audio", "bad_text") and ("lies outside" in detail or "U+0000" in detail)


def test_an_absolute_path_inside_the_source_is_heard(outside):
    turns = [["user", "audio", str(outside / "talk/inside.flac")], ["assistant", "text", "Noise."]]
    write_tar(outside / "talk/x.tar", [("a.json", as_json(dialogue=turns))])
    cache, _ = cached(outside, TarSource("talk", {"train": "x.tar"}), sft.understanding, splits=("train",))
    np.testing.assert_array_equal(cache.read(0).messages()[0].content, sound(7))
