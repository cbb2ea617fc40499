"""The weights that launch/demo.sh serves are shipped: they import, and they hear."""

import numpy as np
import pytest

from bagpiper_jax import configuration
from bagpiper_jax.captions import parse_caption
from bagpiper_jax.captions.parsing import facts
from bagpiper_jax.corpora.embedded import scenes
from bagpiper_jax.dialogue import Message
from bagpiper_jax.evaluation.benchmarks.scenes.agreement import caption_scores
from bagpiper_jax.generation.replies import load_generator
from bagpiper_jax.generation.sampling import TextSampling
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.interop.importing import ImportConfig, import_checkpoint

pytestmark = pytest.mark.optimised


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo") / "nano_demo"
    arguments = ["--gin_file=gin/runs/nano_demo.gin", f"--gin.ImportConfig.output={str(output)!r}"]
    return load_generator(import_checkpoint(configuration.load(ImportConfig, arguments, "")))


def test_it_answers_as_a_tuned_model_and_has_its_codec(demo):
    assert demo.extras["stage"] == "sft" and demo.codec.sample_rate == 16_000


def test_it_hears_sounds_in_their_order(demo):
    rng = np.random.default_rng(7)
    drawn = scenes.training_plans(rng, 400, (0.2, 0.5, 0.3, 0.0), [])
    plans = [plan for plan in drawn if all(event.domain == "sound" for event in plan)][:16]
    rendered = [scenes.render(plan, {}, rng) for plan in plans]
    asked = [
        [Message("user", "audio", sound), Message("user", "text", "What is heard first?")]
        for sound, _ in rendered
    ]
    loop = LoopConfig(text=TextSampling(temperature=0.0, max_steps=256), modalities=("text",))
    said = [parse_caption(reply.text) for reply in demo.reply(asked, loop)]
    truth = [facts(annotation) for _, annotation in rendered]
    score = next(each for each in caption_scores(said, truth, truth) if each.name == "kinds_in_order")
    assert score.value >= 75, score
