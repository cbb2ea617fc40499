"""A headless Chromium for the tests of the page, driven without a library: by the DevTools protocol, through pipes."""

import contextlib
import fcntl
import json
import os
import select
import signal
from pathlib import Path

from browser import find_browser

PATIENCE = 120.0
"""Seconds for what takes one on an idle machine."""

# Notes what is played: when, which samples, and whether more were on their way.
LISTENER = """
window.scheduled = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (at) {
  const samples = Array.from(this.buffer.getChannelData(0));
  scheduled.push({at, samples, early: !document.querySelector("#make .stop").hidden});
  return start.call(this, at);
};
"""
COLOURS = """(canvas => new Set(new Uint32Array(
  canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size)"""
KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), " ": (32, " ")}


class Chromium:
    """A browser, driven through two pipes by the DevTools protocol."""

    def __init__(self, directory: Path):
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The protocol's pipes are 3 and 4; theirs move away first, so that neither lies in the other's place.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 16) for end in (theirs_in, theirs_out)]
        log = os.open(directory / "log", os.O_RDWR | os.O_CREAT)
        command = [
            find_browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
            f"--user-data-dir={directory / 'profile'}", "about:blank",
        ]  # fmt: skip
        moves = [
            (os.POSIX_SPAWN_DUP2, end, number)
            for end, number in (*zip(ends, (3, 4), strict=True), (log, 1), (log, 2))
        ]
        self._process = os.posix_spawn(command[0], command, os.environ, file_actions=moves, setpgroup=0)
        for end in (theirs_in, theirs_out, *ends, log):
            os.close(end)
        self._read, self._calls = b"", 0
        self.events: list[dict] = []

    def call(self, method: str, session: str = "", **params) -> dict:
        self._calls += 1
        number, message = self._calls, {"id": self._calls, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, (method, told)
                return told["result"]
            self.events.append(told)

    def _next(self) -> dict:
        while b"\0" not in self._read:
            assert select.select([self._in], [], [], 2 * PATIENCE)[0], "the browser is silent"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has ended"
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._in)
        os.close(self._out)


class Tab:
    """One page in it."""

    def __init__(self, browser: Chromium, url: str):
        self._browser, self.url = browser, url
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=LISTENER)
        self.size(1280)
        self.call("Page.navigate", url=url)

    def call(self, method: str, **params) -> dict:
        return self._browser.call(method, self._session, **params)

    def js(self, expression: str):
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits until an expression holds."""
        found = self.js(f"""new Promise(resolve => {{
          const deadline = performance.now() + {1000 * PATIENCE};
          const look = () => {{
            if ({condition}) resolve(true);
            else if (performance.now() > deadline) resolve(false);
            else setTimeout(look, 20);
          }};
          look();
        }})""")
        assert found, (condition, self.js("document.body.innerText"), self.faults)

    def text(self, selector: str) -> str:
        return self.js(f"document.querySelector({selector!r}).textContent")

    def size(self, width: int) -> None:
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **screen)

    def press(self, key: str, selector: str = "") -> None:
        """Presses a key, at an element or where the focus is."""
        if selector:
            self.js(f"document.querySelector({selector!r}).focus()")
        code, text = KEYS[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def write(self, selector: str, text: str) -> None:
        self.js(f"document.querySelector({selector!r}).focus()")
        self.call("Input.insertText", text=text)

    def choose(self, path: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=root, selector="#file")
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=found["nodeId"])

    @property
    def faults(self) -> list:
        """What the console has of errors."""
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        entries = [event["params"]["entry"] for event in mine if event["method"] == "Log.entryAdded"]
        thrown = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        told = [event["params"] for event in mine if event["method"] in thrown]
        return told + [entry for entry in entries if entry["level"] == "error"]

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)


@contextlib.contextmanager
def opened(chromium: Chromium, url: str):
    tab = Tab(chromium, url)
    try:
        yield tab
    finally:
        tab.close()


ANSWERED = "document.querySelectorAll('#{} .turn').length == {} && !document.querySelector('#{} .writing')"


def answered(tab: Tab, article: str, turns: int = 1) -> None:
    tab.until(ANSWERED.format(article, turns, article))
