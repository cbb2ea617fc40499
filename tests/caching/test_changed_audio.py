"""The cache job notices audio that changed although the manifest did not."""

import json

import numpy as np
import pytest
from task_helpers import caches, clip, config, write_codes

from bagpiper_jax import audio
from bagpiper_jax.caching.export import cache_mixtures
from bagpiper_jax.data import codes
from bagpiper_jax.data.audio_digest import audio_digest
from bagpiper_jax.data.codes import CodeStoreError
from bagpiper_jax.manifest import read_manifest, write_manifest
from tasks import sources


@pytest.fixture
def root(tmp_path):
    (tmp_path / "user" / "audio").mkdir(parents=True)
    write_manifest(tmp_path / "user", [clip("one"), clip("two")])
    for name in ("one", "two"):
        write_audio(tmp_path, name, 0.01)
    return tmp_path


def write_audio(root, name, level):
    audio.write(root / "user" / "audio" / f"{name}.wav", np.full(8000, level, np.float32))
    sources._audio.cache_clear()  # as a new process would start


def test_changed_audio_is_cached_anew(root):
    settings = {
        "mixtures": ("user_audio_to_caption",),
        "rates": {},
        "splits": ("train",),
        "cache_dir": str(root / "c"),
    }

    def cached():
        (lock,) = cache_mixtures(config(root, **settings))
        (cache,) = caches(lock).values()
        return cache.directory, [float(cache.read(i).messages()[0].content.max()) for i in range(2)]

    before, levels = cached()
    assert levels == pytest.approx([0.01, 0.01], abs=1e-4)
    assert cached()[0] == before
    write_audio(root, "two", 0.02)
    after, levels = cached()
    assert after != before and levels == pytest.approx([0.01, 0.02], abs=1e-4)
    write_audio(root, "two", 0.01)
    assert cached()[0] == before, "the cache of the same content is found again"


def test_codes_of_other_audio_are_refused(root):
    write_codes(root / "user", {"one": 5, "two": 6})
    path = codes.store_directory(root / "user", "nano-codec") / codes.MANIFEST
    made_of = audio_digest(root / "user", read_manifest(root / "user"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"audio": made_of}))
    fields = {
        "mixtures": ("user_caption_to_audio",),
        "rates": {},
        "splits": ("train",),
        "codec": "nano-codec",
    }
    settings = config(root, **fields, cache_dir=str(root / "cache"))
    cache_mixtures(settings)
    write_audio(root, "one", 0.03)
    with pytest.raises(
        CodeStoreError, match="audio of .*user changed since .*nano-codec was made; run tokenize_audio"
    ):
        cache_mixtures(settings)
