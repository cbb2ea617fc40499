"""The routes of the server."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

PAGE = Path(__file__).parent / "page"
"""What the page at `/` is made of."""


def build_app(served) -> Starlette:
    """The server's application.

    Args:
        served: the model that answers.
    """
    return Starlette(
        routes=[Route("/", _page), Mount("/static", StaticFiles(directory=PAGE), name="static")],
    )


async def _page(request) -> FileResponse:
    return FileResponse(PAGE / "index.html")
