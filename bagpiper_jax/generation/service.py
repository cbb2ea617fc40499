"""The engine with a thread of its own: dialogues in from any asyncio task, events out as they come."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bagpiper_jax.dialogue import Message, Rendered
from bagpiper_jax.generation.config import EngineConfig
from bagpiper_jax.generation.engine import EngineCore
from bagpiper_jax.generation.replies import Generator
from bagpiper_jax.generation.requests import EngineError, Request
from bagpiper_jax.generation.segments import LoopConfig
from bagpiper_jax.generation.streaming import Event, SegmentStream

_END = None


class Engine:
    """Answers dialogues as they come, many at once.

        with Engine(load_generator("runs/nano_sft")) as engine:
            async for event in engine.submit([Message("user", "text", "rain on a roof")], LoopConfig()):
                …

    One thread runs the device, another one the codec, so that sound is decoded while the next rows are made.
    """

    def __init__(
        self,
        generator: Generator,
        config: EngineConfig = EngineConfig(),
        warm_up: bool = False,
        fill: bool = False,
    ):
        """Takes the memory of the cache.

        Args:
            generator: the model.
            config: sizes.
            warm_up: compiles all programs first, so that nobody waits.
            fill: feeds whoever finds a row before the rows go on: where nobody waits for the next token, full rows
                count, and no program is compiled for the few rows that come first.
        """
        self._generator, self._fill = generator, fill
        self._core = EngineCore(generator.model, config)
        if warm_up:
            self._core.warm_up()
        self._outlets: dict[Request, _Outlet] = {}
        self._changed = threading.Condition()
        self._inbox: list[Callable[[], None]] = []
        self._closing = False
        self._broken: BaseException | None = None
        self._codec_thread = ThreadPoolExecutor(1, "bagpiper-codec")
        self._thread = threading.Thread(target=self._run, name="bagpiper-engine", daemon=True)
        self._thread.start()

    def submit(
        self, dialogue: Sequence[Message], config: LoopConfig, seed: int | None = None, begun: str = ""
    ) -> "Stream":
        """Asks for an answer; call it where an event loop runs.

        Args:
            dialogue: as `Generator.reply` takes it.
            config: the settings of sampling.
            seed: the seed of sampling instead of `config.seed`; the answer depends on it alone.
            begun: text that the answer begins with, as `Generator.reply` takes it; the events begin with it.

        Raises:
            GeneratorError, DialogueError: as `Generator.reply`.
            EngineError: the dialogue does not fit the engine, or the engine is closed.
        """
        prompt = self._generator.prompt(dialogue, config)
        ids = self._generator.begin(begun, config) if begun else ()
        request = self._core.request(prompt, config, seed, ids)
        outlet = _Outlet(request, self._generator)
        self._post(lambda: self._open(request), opens=(request, outlet))
        return Stream(prompt, outlet, lambda: self._post(lambda: self._close(request)))

    @property
    def waiting(self) -> int:
        """Dialogues that have no row yet."""
        return len(self._core.waiting) + len(self._inbox)

    @property
    def active(self) -> int:
        """Dialogues that are being answered."""
        return len(self._core.active)

    @property
    def is_open(self) -> bool:
        """Whether it takes dialogues: nobody closed it and nothing broke it."""
        return not self._closing and self._broken is None

    @property
    def used(self) -> float:
        """The part of the cache's pages that is in use."""
        pool = self._core.memory.pool
        return 1 - pool.free / pool.size

    def close(self, drain: bool = False) -> None:
        """Ends the threads; with `drain` after all dialogues have been answered, else with an error for each."""
        with self._changed:
            self._closing = True
            if not drain:
                self._inbox.append(
                    lambda: self._fail(EngineError("the engine was closed before the answer ended"))
                )
            self._changed.notify()
        self._thread.join()
        self._codec_thread.shutdown()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _post(self, command: Callable[[], None], opens: "tuple[Request, _Outlet] | None" = None) -> None:
        """Has the engine's thread do something between two calls of the device."""
        with self._changed:
            if opens is not None:
                if self._broken is not None or self._closing:
                    raise EngineError(f"the engine takes no more dialogues: {self._broken or 'it is closed'}")
                self._outlets[opens[0]] = opens[1]
            self._inbox.append(command)
            self._changed.notify()

    def _open(self, request: Request) -> None:
        self._core.enqueue(request)
        if request.rows or request.segments:  # what it begins with needs no step
            self._tell(request)

    def _close(self, request: Request) -> None:
        self._core.cancel(request)
        self._outlets.pop(request, None)

    def _run(self) -> None:
        try:
            while self._commands():
                while self._core.feed() and self._fill:
                    self._commands()  # who came meanwhile is fed as well
                for request in self._core.decode():
                    self._tell(request)
        except BaseException as error:
            with self._changed:
                self._broken = error
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    def _commands(self) -> bool:
        """Does what was posted, after a rest if there is nothing else to do. False: the engine has to end."""
        with self._changed:
            while not self._inbox and self._core.is_idle and not self._closing:
                self._changed.wait()
            inbox, self._inbox = self._inbox, []
        for command in inbox:
            command()
        return not (self._closing and self._core.is_idle)

    def _tell(self, request: Request) -> None:
        outlet = self._outlets.get(request)
        if outlet is None:  # it was left before it came
            return
        for more in outlet.news():
            # The order of a dialogue's events is that of the codec's thread, once it has any.
            if outlet.sounds:
                self._codec_thread.submit(more)
            else:
                more()
        if request.ended:
            del self._outlets[request]

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            outlets, self._outlets = self._outlets, {}
        for request, outlet in outlets.items():
            self._core.cancel(request)
            self._codec_thread.submit(outlet.put, error)


class Stream:
    """The events of one answer, an async iterator. Who leaves it unread to its end cancels it, by `cancel` or by
    letting go of it: its row is free after at most one call of the device.

    Attributes:
        prompt: what the model was asked.

    Raises:
        Explained: while iterating, what ended this dialogue before its time.
    """

    def __init__(self, prompt: Rendered, outlet: "_Outlet", cancel: Callable[[], None]):
        self.prompt, self._outlet, self._cancel = prompt, outlet, cancel
        self._over = False

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Event:
        if self._over:
            raise StopAsyncIteration
        event = await self._outlet.queue.get()
        if event is _END or isinstance(event, BaseException):
            self._over = True
            raise StopAsyncIteration if event is _END else event
        return event

    def cancel(self) -> None:
        """Ends the answer; the iterator has no more events."""
        if not self._over:
            self._over = True
            self._cancel()

    async def aclose(self) -> None:
        """The same, as `contextlib.aclosing` calls it."""
        self.cancel()

    def __del__(self):
        self.cancel()


class _Outlet:
    """From the engine's thread to the task that reads."""

    def __init__(self, request: Request, generator: Generator):
        self._request, self._generator = request, generator
        self._loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue = asyncio.Queue()
        self._segment = self._rows = 0
        self._stream: SegmentStream | None = None
        self.sounds = False

    def put(self, event: Event | BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self.queue.put_nowait, event)
        except RuntimeError:  # the reader's loop has ended
            pass

    def news(self) -> list[Callable[[], None]]:
        """What has come since, each to be put out in its turn. Called by the engine's thread."""
        request, found = self._request, []
        while self._segment < len(request.segments):
            segment = request.segments[self._segment]
            found.append(self._more(segment.modality, segment.rows[self._rows :], segment.terminator != 0))
            self._segment, self._rows, self._stream = self._segment + 1, 0, None
        if request.modality is not None and len(request.rows) > self._rows:
            found.append(self._more(request.modality, request.rows[self._rows :]))
            self._rows = len(request.rows)
        if request.ended:
            found.append(lambda: self.put(request.error or _END))
        return found

    def _more(
        self, modality: str, rows: Sequence[np.ndarray], complete: bool | None = None
    ) -> Callable[[], None]:
        if self._stream is None:
            config = self._generator.model.config
            self._stream = SegmentStream(
                self._segment, modality, self._generator.tokenizer, self._generator.codec, config.vocabulary
            )
        stream, rows = self._stream, list(rows)
        self.sounds = self.sounds or modality == "audio"

        def put():
            try:
                for event in stream.add(rows):
                    self.put(event)
                for event in stream.end(complete) if complete is not None else ():
                    self.put(event)
            except Exception as error:
                self.put(error)

        return put
