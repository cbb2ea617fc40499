"""One HTML page that needs nothing but itself."""

import os
from collections.abc import Iterable
from html import escape
from pathlib import Path

from bagpiper_jax import files

_STYLE = Path(__file__).with_name("report.css")


def write_page(
    path: str | os.PathLike, title: str, body: Iterable[str], more_style: str | os.PathLike | None = None
) -> Path:
    """Writes a page in the house's style, whole or not at all; returns its path.

    Args:
        title: of the window; plain text.
        body: HTML.
        more_style: a CSS file that is added to the house's.
    """
    styles = [_STYLE] + ([Path(more_style)] if more_style else [])
    style = "".join(sheet.read_text(encoding="utf-8") for sheet in styles)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, page)
    return path
