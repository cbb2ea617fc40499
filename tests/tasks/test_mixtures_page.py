"""The page on mixtures: its worked example is run as it stands, and the names it gives exist."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import seqio
from places import REPOSITORY

from bagpiper_jax import dialogue
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.data.loader import Loader
from bagpiper_jax.data.lock import read_lock
from bagpiper_jax.jobs import cache_tasks, check_tasks, inspect_data
from bagpiper_jax.text import ByteTokenizer
from bagpiper_jax.vocabulary import Vocabulary
from tasks import settings

PAGE = (REPOSITORY / "docs/mixtures.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """A working directory with the example's files."""
    make, tasks, rows, variants, _ = blocks("python")
    gin, variants_gin = blocks("gin")
    for name, text in (
        ("make_birds.py", make),
        ("my_tasks.py", tasks),
        ("rows.py", rows),
        ("my_variants.py", variants),
        ("variants.gin", variants_gin),
        ("birds.gin", gin),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run(path: Path) -> None:
    exec(compile(path.read_text(), path.name, "exec"), {"__name__": "__main__"})


def test_the_worked_example(example, capsys):
    run(example / "make_birds.py")
    cache_tasks.main(["--gin_file=birds.gin"])
    rates = {t.task: t.rate for t in read_lock("cache/birds.lock.json").tasks("train")}
    assert rates == pytest.approx({"birds_captions": 0.75, "birds_last_word": 0.25})
    assert check_tasks.main(["--gin_file=birds.gin"]) == 0
    assert "birds_last_word train: SeqIO and cache agree on 20 examples" in capsys.readouterr().out
    run(example / "rows.py")
    said = capsys.readouterr().out
    assert re.search(r"user audio \nassistant text Bird \d+ sings\.\n", said)
    assert re.search(r"user audio \nuser text What .*\?\nassistant text sings\.\n", said)
    tar = example / "corpora/birds/train-0.tar"
    tar.write_bytes(tar.read_bytes().replace(b"Bird 3 sings.", b"Bird 3 flies."))
    assert check_tasks.main(["--gin_file=birds.gin"]) == check_tasks.EXIT_DIFFERENT
    assert "birds_captions train: differ 1: bird3" in capsys.readouterr().out


def test_the_example_of_variants(example, capsys):
    run(example / "make_birds.py")
    cache_tasks.main(["--gin_file=variants.gin"])
    assert check_tasks.main(["--gin_file=variants.gin"]) == 0
    vocabulary = Vocabulary(text_size=256)
    loader = Loader("cache/birds_variants.lock.json", BatchShape(rows=2, slots=512, chunks=16), vocabulary)
    (cache,) = loader.caches
    long, short = (cache.read(3).messages(variant=v) for v in (0, 1))
    assert [len(long), len(short)] == [4, 3] and len(cache.read(3).text) == sum(
        len(m.content) for m in long[1:]
    )
    said = {}
    for batch in itertools.islice(loader.iterate(), 40):
        for row in batch.tokens:
            for _, modality, content in dialogue.parse(row, vocabulary):
                text = ByteTokenizer().decode(content) if modality == "text" else ""
                said[text] = said.get(text, 0) + 1
    answers, captions = said["sings."], sum(count for text, count in said.items() if text.startswith("Bird "))
    assert captions / answers == pytest.approx(0.5, abs=0.1)
    assert (
        inspect_data.main(["--lock=cache/birds_variants.lock.json", "--task=birds_two_ways", "--index=0"])
        == 0
    )
    assert "variant 2 of 2" in capsys.readouterr().out


def test_the_example_is_as_short_as_it_says():
    tasks = blocks("python")[1].splitlines()
    assert len([line for line in tasks if line.strip()]) <= 20


def test_the_mapping_of_another_data_set(tmp_path):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    space = {}
    exec(blocks("python")[4], space)
    settings.configure(settings.Settings(data_root=str(tmp_path)))
    example = {"audio": np.full(8000, 500), "label": 7, "audio/filename": "7_theo_12.wav", "tfds_id": "x"}
    given = tf.data.Dataset.from_tensors(example).apply(tf.data.experimental.assert_cardinality(1))
    with tfds.testing.mock_data(as_dataset_fn=lambda self, **_: given):
        (found,) = space["DIGITS"].get_dataset("train").as_numpy_iterator()
    clip = json.loads(found["clip"])
    assert clip["id"] == "7_theo_12.wav" and clip["group"] == "theo" and clip["duration"] == 1.0
    assert clip["annotation"]["turns"][0]["text"] == "7"


def test_names_on_the_page_exist():
    import tasks.file_sources
    import tasks.mixtures
    import tasks.tfds_mappings
    import tasks.tfds_source

    for name in ("TarSource", "ParquetSource", "EspnetSource"):
        assert name in PAGE and hasattr(tasks.file_sources, name)
    assert "TfdsSource" in PAGE and tasks.tfds_source.TfdsSource and tasks.tfds_mappings.LIBRISPEECH
    for corpus in tasks.mixtures.CORPORA:
        assert f"`{corpus}`" in PAGE
        for mixture in re.findall(r"`<corpus>(_pretraining\w*|_sft|_tuning)`", PAGE):
            assert f"{corpus}{mixture}" in seqio.MixtureRegistry.names()
