"""A server in a process of its own, which says where it listens: the tests end it by signals."""

import dataclasses

from tiny_server import NAME, SETTINGS, random_generator

from bagpiper_jax.generation.sampling import SamplingConfig
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.serving.job import bound, run

if __name__ == "__main__":
    generator = random_generator()
    settings = dataclasses.replace(
        SETTINGS, loop=dataclasses.replace(SETTINGS.loop, text=SamplingConfig(0.9, 0, 1, 900, 900))
    )
    with bound("127.0.0.1", 0) as listener, Engine(generator, SETTINGS.engine) as engine:
        listener.listen()  # so that who reads the line below may come at once
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        run(settings, generator, engine, NAME, listener)
