"""Pages from the templates of this folder: what enters them is escaped, and nothing is fetched.

A template lays out, Python measures and names. Templates are found in the package, extend `page.html.j2` and take their
pieces from `parts.html.j2`.
"""

import functools
import os
from pathlib import Path
from typing import Any

from bagpiper_jax import files
from bagpiper_jax.errors import Explained

_UNSEEN = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}
"""Control characters, which HTML forbids, to the pictures that Unicode has of them."""


class PageError(Explained):
    """A page that cannot be written; names its file and why."""


@functools.cache
def environment():
    """The one Jinja environment. Jinja is loaded with the first page: a host that trains can do without it."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("bagpiper_jax.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_writable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _writable(value: Any) -> Any:
    """Text in which everything can be written and seen; other values as they are."""
    if not isinstance(value, str) or value.isprintable():
        return value
    # A file name that is not UTF-8 is held with lone surrogates.
    found = value.translate(_UNSEEN)
    return type(found)(found.encode("utf-8", "backslashreplace").decode("utf-8"))


def render(template: str, **content: Any) -> str:
    """A template of `templates/` filled in.

    Raises:
        jinja2.UndefinedError: the template names something that `content` lacks.
    """
    return environment().get_template(template).render(content)


def write_page(path: str | os.PathLike, template: str, **content: Any) -> Path:
    """Renders a page and writes it, whole or not at all; returns its path.

    Raises:
        PageError: its place cannot be written.
    """
    path = Path(path)
    page = render(template, **content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, page)
    except (OSError, ValueError) as error:
        raise PageError(f"the page {str(path)!r} cannot be written: {error}; name another place") from error
    return path
