"""The routes of the server."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bagpiper_jax.generation.service import Engine
from bagpiper_jax.serving.chat import Chat
from bagpiper_jax.serving.faults import APIError
from bagpiper_jax.serving.gate import Gate
from bagpiper_jax.serving.metrics import Metrics
from bagpiper_jax.serving.model import Served
from bagpiper_jax.serving.speech import Speech

PAGE = Path(__file__).parent / "page"
"""What the page at `/` is made of."""

_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; media-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def build_app(
    models: Mapping[str, Served], gate: Gate, metrics: Metrics, log_prompts: bool = False
) -> Starlette:
    """The server's application.

    Args:
        models: those that answer, by the names that clients call them.
        gate: lets requests in.
        metrics: count them.
        log_prompts: whether the log has what clients ask.
    """
    engines, api = [served.engine for served in models.values()], (models, gate, metrics, log_prompts)
    metrics.watch("bagpiper_inside", "requests that are inside", lambda: gate.inside)
    metrics.watch(
        "bagpiper_waiting",
        "dialogues that wait for a row of the engine",
        lambda: sum(e.waiting for e in engines),
    )
    metrics.watch(
        "bagpiper_active", "dialogues that have a row of the engine", lambda: sum(e.active for e in engines)
    )
    metrics.watch(
        "bagpiper_cache_used",
        "the part of the cache's pages that is in use",
        lambda: max(e.used for e in engines),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        gate.is_draining = True

    return Starlette(
        routes=[
            Route("/v1/chat/completions", Chat(*api), methods=["POST"]),
            Route("/v1/audio/speech", Speech(*api), methods=["POST"]),
            Route("/v1/models", _guarded(gate, lambda _: _cards(models))),
            Route("/v1/models/{name:path}", _guarded(gate, lambda request: _card(models, request))),
            Route("/health", _health(engines, gate)),
            Route("/metrics", lambda _: Response(metrics.text(), media_type="text/plain; version=0.0.4")),
            Route("/", lambda _: FileResponse(PAGE / "index.html", headers=_PAGE_HEADERS)),
            Mount("/static", _PageFiles(directory=PAGE), name="static"),
        ],
        exception_handlers={HTTPException: _not_here, APIError: _refused},
        lifespan=lifespan,
    )


class _PageFiles(StaticFiles):
    def file_response(self, *args, **kwargs) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_PAGE_HEADERS)
        return response


def _cards(models: Mapping[str, Served]) -> dict:
    return {"object": "list", "data": [served.card() for served in models.values()]}


def _card(models: Mapping[str, Served], request: Request) -> dict:
    name = request.path_params["name"]
    if name not in models:
        raise APIError(404, f"The model '{name}' does not exist.", "model_not_found", "model")
    return models[name].card()


def _guarded(gate: Gate, told):
    async def endpoint(request: Request) -> Response:
        gate.check_key(request)
        return JSONResponse(told(request))

    return endpoint


def _health(engines: Sequence[Engine], gate: Gate):
    async def endpoint(_: Request) -> Response:
        if gate.is_draining:
            return JSONResponse({"status": "draining"}, 503)
        if not all(engine.is_open for engine in engines):
            return JSONResponse({"status": "the engine has ended"}, 503)
        return JSONResponse({"status": "ok"})

    return endpoint


def _not_here(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = APIError(
        error.status_code, str(error.detail), "not_found" if error.status_code == 404 else "http_error"
    )
    return JSONResponse(told.body, error.status_code, headers=error.headers)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, APIError)
    return JSONResponse(error.body, error.status, headers=error.headers)
