"""One server, several models: a checkpoint and adapters of it over the same weights."""

import types

import openai
import pytest
from adapter_helpers import LORA, random_parameters, save_adapter, save_base
from tiny_server import CONFIG, ENGINE, NAME, reply, running

from bagpiper_jax.dialogue import Message
from bagpiper_jax.generation.replies import Generator, load_generators
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.models.adapters.lora import AdapterError
from bagpiper_jax.serving.config import ServeConfig, ServingError
from bagpiper_jax.serving.job import names_of

QUESTION = [{"role": "user", "content": "What is heard?"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base") / "base", random_parameters(0, CONFIG), CONFIG)


@pytest.fixture(scope="module")
def found(base, tmp_path_factory) -> list[Generator]:
    """Of the checkpoint and of an adapter."""
    adapter = save_adapter(tmp_path_factory.mktemp("adapter") / "piano", base, LORA, CONFIG)
    return load_generators(base, [adapter])


def test_adapters_share_the_weights_of_their_base(found):
    first, second = (generator.model for generator in found)
    up = second.decoder.layers.ffn.up[...]
    assert first.lm_head[...] is second.lm_head[...] and up.base is first.decoder.layers.ffn.up[...]


def test_each_model_answers_by_its_name(found):
    first, second = found
    with Engine(second, ENGINE) as engine, running(first, adapted=[("piano", second, engine)]) as server:
        client = server.client()
        assert [model.id for model in client.models.list()] == [NAME, "piano"]
        assert client.models.retrieve("piano").id == "piano"
        told = {}
        for name, generator in ((NAME, first), ("piano", second)):
            answer = client.chat.completions.create(
                model=name, messages=QUESTION, modalities=["text"], seed=3
            )
            assert answer.model == name
            server_of_one = types.SimpleNamespace(generator=generator)
            told[name] = answer.choices[0].message.content
            expected = reply(server_of_one, [Message("user", "text", "What is heard?")], ("text",), 3)
            assert told[name] == expected.text
        assert told[NAME] != told["piano"]
        with pytest.raises(openai.NotFoundError, match="does not exist; there are 'tiny' and 'piano'"):
            client.chat.completions.create(model="flute", messages=QUESTION)


def test_mistakes_are_named(base, tmp_path):
    other = save_base(tmp_path / "other", random_parameters(1, CONFIG), CONFIG)
    adapter = save_adapter(tmp_path / "theirs", other, LORA, CONFIG)
    with pytest.raises(AdapterError, match="an adapter of another base"):
        load_generators(base, [adapter])
    with pytest.raises(ServingError, match="x: two models have this name"):
        names_of(ServeConfig("runs/x", adapters=("other/x",)))
