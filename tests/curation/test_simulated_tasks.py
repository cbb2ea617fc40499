"""Simulated dialogues through the real SeqIO tasks: every one is cached as it was written."""

import simulated_answers
from curation_helpers import corpus, settings
from misbehaving_endpoint import endpoint
from task_helpers import cache_mixture, caches, config, write_codes

from bagpiper_jax.curation.dialogues.simulation import SimulateConfig, simulate
from bagpiper_jax.manifest import read_manifest
from bagpiper_jax.text import ByteTokenizer


def test_tuning_caches_what_was_simulated(tmp_path):
    corpus(tmp_path, 3)
    user = tmp_path / "user"
    with endpoint(simulated_answers.answer) as server:
        simulate(
            SimulateConfig(**{**settings(tmp_path, server), "output": str(user)}, system_prompt="Make audio.")
        )
    clips = {clip.id: clip for clip in read_manifest(user)}
    write_codes(user, dict.fromkeys(clips, 10))
    made = caches(cache_mixture(config(tmp_path, mixtures=("user_sft",), rates={}, codec="nano-codec")))
    assert made["user_sft_generation"].manifest["counts"] == {
        "ok": 6,
        "skipped dialogue_of_other_direction": 3,
    }
    assert made["user_sft_understanding"].manifest["counts"] == {
        "ok": 3,
        "skipped dialogue_of_other_direction": 6,
    }
    for cache, kept in ((made["user_sft_generation"], 6), (made["user_sft_understanding"], 3)):
        for index in range(kept):
            dialogue = next(c.dialogue for c in clips.values() if c.id == cache.read(index).id)
            written = [m.content for m in cache.read(index).messages() if m.modality == "text"]
            assert [ByteTokenizer().decode(ids) for ids in written] == [
                m[2] for m in dialogue if m[1] == "text"
            ]
