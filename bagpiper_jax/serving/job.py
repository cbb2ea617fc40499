"""From a run to a server that answers until it is told to end."""

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvicorn

from bagpiper_jax.generation.replies import Generator, load_generators
from bagpiper_jax.generation.service import Engine
from bagpiper_jax.serving.app import build_app
from bagpiper_jax.serving.asking import Asking
from bagpiper_jax.serving.clips import Clips
from bagpiper_jax.serving.config import ServeConfig, ServingError
from bagpiper_jax.serving.gate import Gate
from bagpiper_jax.serving.metrics import Metrics
from bagpiper_jax.serving.model import Served

_LOCAL = ("127.0.0.1", "::1", "localhost")
_log = logging.getLogger(__name__)

Adapted = tuple[str, Generator, Engine]
"""What a further model is called, and what answers for it."""


def serve(config: ServeConfig) -> None:
    """Loads a run and serves it until SIGTERM or SIGINT, and then until what is under way has been answered.

    Raises:
        ServingError: the address cannot be listened at, or the API key is none.
        ServingError: two models have one name.
        ModelConfigError, TokenizerError, CheckpointError, GeneratorError, AdapterError: as `load_generators`.
    """
    key = key_of(config.key_variable, os.environ)
    # What is wrong with the address is said before a model is loaded.
    with bound(config.host, config.port) as listener:
        if not key and config.host not in _LOCAL:
            _log.warning(
                "anybody who reaches %s may ask: put a key into %s", config.host, config.key_variable
            )
        names = names_of(config)
        found = load_generators(
            config.checkpoint, config.adapters, config.codec, config.tokenizer, config.weights
        )
        with contextlib.ExitStack() as stack:
            engines = [stack.enter_context(Engine(each, config.engine, config.warm_up)) for each in found]
            first, *adapted = zip(names, found, engines, strict=True)
            run(config, first[1], first[2], first[0], listener, key, adapted)


def run(
    config: ServeConfig,
    generator: Generator,
    engine: Engine,
    name: str,
    listener: socket.socket,
    key: str = "",
    adapted: Sequence[Adapted] = (),
) -> None:
    """Serves a model at a socket that is bound, until a signal ends it.

    Args:
        config: all of it but where the model comes from.
        generator, engine: the model.
        name: what clients call it.
        listener: the socket.
        key: what clients have to know, "" for nothing.
        adapted: further models.
    """
    server = server_of(config, generator, engine, name, key, adapted)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal that ended it once more; by then it has been obeyed.
        signal.signal(number, signal.SIG_IGN)
    server.run(sockets=[listener])


def names_of(config: ServeConfig) -> list[str]:
    """What clients call the checkpoint and each adapter. Raises ServingError: two have one name."""
    names = [config.name or Path(config.checkpoint).resolve().name]
    names += [Path(adapter).resolve().name for adapter in config.adapters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ServingError(
            f"{', '.join(twice)}: two models have this name; rename the directory of one of them"
        )
    return names


def server_of(
    config: ServeConfig,
    generator: Generator,
    engine: Engine,
    name: str,
    key: str = "",
    adapted: Sequence[Adapted] = (),
) -> "Server":
    """A server that does not run yet, see `run`."""
    clips = Clips(config.limits, config.audio_hosts)
    models = {
        each: Served(
            each, answers, runs, Asking(answers, config.loop, config.system_prompt, clips), config.limits
        )
        for each, answers, runs in ((name, generator, engine), *adapted)
    }
    gate = Gate(config.limits, config.engine.rows * len(models), key)
    app = build_app(models, gate, Metrics(), config.log_prompts)
    return Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="on", ws="none",
            timeout_graceful_shutdown=max(1, round(config.limits.drain)),
        ),
        gate,
        name,
    )  # fmt: skip


class Server(uvicorn.Server):
    """uvicorn, which lets nobody in any more once it was told to end, and says where it listens."""

    def __init__(self, config: uvicorn.Config, gate: Gate, name: str):
        super().__init__(config)
        self._gate, self._name = gate, name

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = (sockets or self.servers[0].sockets)[0].getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        _log.info("serving %s at http://%s:%d/, for clients of OpenAI's API at /v1", self._name, host, port)

    def handle_exit(self, sig, frame) -> None:
        self._gate.is_draining = True
        super().handle_exit(sig, frame)


def bound(host: str, port: int) -> socket.socket:
    """A socket with an address, not listening yet. Raises ServingError: there is none to be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
        except OSError:
            found.close()
            raise
    except (OSError, OverflowError) as error:
        raise ServingError(
            f"{host}:{port} cannot be listened at ({error}); name others with --gin.ServeConfig.host and "
            "--gin.ServeConfig.port, or end what listens there"
        ) from error
    return found


def key_of(variable: str, environment: Mapping[str, str]) -> str:
    """The API key; "" if the variable holds none. Raises ServingError: no HTTP header can carry it."""
    key = environment.get(variable, "").strip() if variable else ""
    if not key.isascii() or not key.isprintable():
        raise ServingError(
            f"the environment variable {variable} holds a line break or a letter that no HTTP header can carry; "
            "put the key alone into it"
        )
    return key
