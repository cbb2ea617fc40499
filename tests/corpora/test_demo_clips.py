"""The release's demo clips through the whole data path: manifest → codes → cache → packed batch → back again."""

import json

import numpy as np
import pytest

from bagpiper_jax import audio, dialogue
from bagpiper_jax.batch import BatchShape
from bagpiper_jax.caching.config import CacheConfig
from bagpiper_jax.caching.export import cache_mixtures
from bagpiper_jax.caching.tokenization import TokenizeConfig, tokenize
from bagpiper_jax.corpora import user
from bagpiper_jax.data.codes import CodeStore, codec_fingerprint
from bagpiper_jax.data.loader import Loader, LoaderConfig
from bagpiper_jax.manifest import read_manifest
from bagpiper_jax.models.codecs.opening import open_codec
from bagpiper_jax.models.codecs.xcodec.storage import NANO
from bagpiper_jax.text import ByteTokenizer
from bagpiper_jax.vocabulary import Vocabulary

pytestmark = pytest.mark.optimised
VOCABULARY = Vocabulary(text_size=1024, codebook_size=256)
SHAPE = BatchShape(rows=4, slots=8192, chunks=64)


@pytest.fixture(scope="module")
def path(demo_clips, tmp_path_factory):
    """Root directory with the corpus, its codes, and the lock of a cached mixture."""
    root = tmp_path_factory.mktemp("demo")
    user.build(
        user.UserCorpusConfig(
            str(demo_clips / "manifest.jsonl"), str(root / "user"), workers=1, max_reject_frac=0.0,
            held_out=0.0,
        )
    )  # fmt: skip
    tokenize(TokenizeConfig(str(root / "user")))
    tasks = ("user_caption_to_audio", "user_audio_to_caption")
    cache_mixtures(
        CacheConfig(
            mixtures=("user_pretraining",), data_root=str(root), cache_dir=str(root / "cache"),
            codec=str(NANO), splits=("train",), rates={"user_text_only": 0.0} | dict.fromkeys(tasks, 1.0),
        )
    )  # fmt: skip
    return root


def messages_of(root):
    """Every message of every document of every row, in serving order, with the row's features."""
    loader = Loader(
        root / "cache" / "user_pretraining.lock.json",
        SHAPE,
        VOCABULARY,
        LoaderConfig(cfg_dropout=0.0, finite=True),
    )
    for step in range(loader.num_steps):
        batch = loader.batch(step)
        for row in range(SHAPE.rows):
            for segment in range(1, batch.segment_ids[row].max(initial=0) + 1):
                yield from dialogue.parse(batch.tokens[row][batch.segment_ids[row] == segment], VOCABULARY)


@pytest.mark.slow
def test_captions_and_codes_come_back_from_packed_rows(demo_clips, path):
    lines = (demo_clips / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    captions = sorted(json.loads(line)["caption"].strip() for line in lines)
    assert len(captions) == 24
    messages = list(messages_of(path))
    decode = ByteTokenizer().decode
    prompts = sorted(decode(c) for role, modality, c in messages if (role, modality) == ("user", "text"))
    answers = sorted(decode(c) for role, modality, c in messages if (role, modality) == ("assistant", "text"))
    assert prompts == captions and answers == captions

    store = CodeStore.open(path / "user", codec_fingerprint(NANO))
    served = sorted(c.tobytes() for role, m, c in messages if (role, m) == ("assistant", "audio"))
    assert served == sorted(np.asarray(store[i], np.int32).tobytes() for i in store.ids())


@pytest.mark.slow
def test_codes_of_packed_rows_decode_to_audio_of_the_same_length(path):
    codec = open_codec(NANO)
    store = CodeStore.open(path / "user", codec_fingerprint(NANO))
    for clip in list(read_manifest(path / "user"))[::8]:
        original = audio.read(path / "user" / clip.audio)
        (decoded,) = codec.decode([store[clip.id]])
        assert abs(len(decoded) - len(original)) < codec.hop
        assert np.isfinite(decoded).all() and decoded.std() > 0
