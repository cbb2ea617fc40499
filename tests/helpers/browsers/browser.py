"""Pages in a headless Chromium: what loaded, what overflows. No driver: the page is put into a frame that reports."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_REPORT = """<script>
const state = frame => {
  const page = frame.contentDocument, all = kind => [...page.querySelectorAll(kind)];
  return {
    images: all('img').length, broken_images: all('img').filter(i => !i.naturalWidth).length,
    sounds: all('audio').length, seconds: all('audio').map(a => a.duration),
    broken_sounds: all('audio').filter(a => !(a.duration > 0)).length,
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    width: page.documentElement.clientWidth, text: page.body.innerText,
    targets: all('a').filter(a => !page.getElementById((a.getAttribute('href') || '').slice(1))).length,
  };
};
const frames = [...document.querySelectorAll('iframe')];
const look = left => {
  const found = frames.map(state);
  if (found.some(f => f.broken_images || f.broken_sounds) && left) return setTimeout(() => look(left - 1), 50);
  document.body.insertAdjacentHTML('beforeend', '<pre id=report></pre>');
  document.getElementById('report').textContent = JSON.stringify(found);
};
window.onload = () => look(100);
</script>"""


def find_browser() -> str:
    """Skips the test where there is no browser."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip(
            f"none of {', '.join(_BROWSERS)} is installed; install Debian's chromium to run this test"
        )
    return found


WIDTHS = (1280, 390)
"""Of a desktop's window and a phone's, in pixels."""


def look_at(pages: list[Path], directory: Path) -> list[list[dict]]:
    """What the browser makes of each page, at each of `WIDTHS`."""
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:900px" '
        f'srcdoc="{html.escape(page.read_text(encoding="utf-8"), quote=True)}"></iframe>'
        for page in pages
        for width in WIDTHS
    )
    opened = directory / "frames.html"
    opened.write_text(f'<!doctype html><meta charset="utf-8">{frames}{_REPORT}', encoding="utf-8")
    command = [
        find_browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={directory / 'profile'}", "--window-size=1500,1000", "--virtual-time-budget=8000",
        "--dump-dom", opened.as_uri(),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    report = re.search(r'<pre id="report">(.*?)</pre>', ended.stdout, re.S)
    assert report, f"the browser told nothing: {ended.stderr[-2000:]}"
    found = json.loads(html.unescape(report[1]))
    return [found[n : n + len(WIDTHS)] for n in range(0, len(found), len(WIDTHS))]
