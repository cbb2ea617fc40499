"""What the page is made of: valid, its own, and nothing that a strict Content-Security-Policy would refuse."""

import re

import pytest

from bagpiper_jax.serving.app import PAGE

FILES = sorted(PAGE.iterdir())
INDEX = (PAGE / "index.html").read_text()


def test_the_page_is_valid_html():
    html5lib = pytest.importorskip("html5lib")
    parser = html5lib.HTMLParser()
    parser.parse(INDEX)
    assert not parser.errors, parser.errors


def test_scripts_and_styles_stand_in_files_of_their_own():
    assert not re.findall(r"<style|\sstyle=|\son\w+=|javascript:", INDEX)
    assert not [body for body in re.findall(r"<script[^>]*>(.*?)</script>", INDEX, re.S) if body]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_fetched_from_elsewhere(path):
    # The one address is the name of a format.
    assert set(re.findall(r"\w+://[\w./]*", path.read_text())) <= {"http://www.w3.org/2000/svg"}


def test_every_file_is_used():
    named = {name for path in FILES for name in re.findall(r'"(?:\./|static/)([\w.]+)"', path.read_text())}
    assert named == {path.name for path in FILES} - {"index.html"}


def test_files_are_small():
    assert max(len(path.read_text().splitlines()) for path in FILES) <= 350


def test_the_colours_are_those_of_the_other_pages():
    others = PAGE.parents[1] / "pages/templates/page.css"
    ours, theirs = (_colours(path.read_text()) for path in (PAGE / "style.css", others))
    shared = ours.keys() & theirs.keys()
    assert {"ink", "soft", "faint", "paper", "card", "accent", "good", "short"} <= shared
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def _colours(style: str) -> dict[str, list[str]]:
    """The values of each variable: in light, in dark."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"--(\w[\w-]*): (#\w+)", style):
        found.setdefault(name, []).append(value)
    return found
