"""Drive headless Chromium over the pipe of the DevTools protocol, without a further package.

Source: https://chromedevtools.github.io/devtools-protocol/ and `--remote-debugging-pipe` of Chromium, which
reads messages that end in a null byte from file descriptor 3 and writes them to 4.
"""

import base64
import contextlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--no-first-run", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio"),
    *("--disable-dev-shm-usage", "--force-color-profile=srgb", "--hide-scrollbars"),
    *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
)


class BrowserError(Exception):
    """The page raised an error, or Chromium did not answer."""


@dataclass
class Page:
    """A tab and its workers.

    Args:
        errors: Errors and warnings of the console and uncaught exceptions, of the tab and its workers.
        requests: The address of each request, of the tab and its workers.
    """

    chromium: "Chromium"
    target: str
    session: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> Any:
        return self.chromium.call(method, self.session, **parameters)

    def close(self) -> None:
        self.chromium.call("Target.closeTarget", targetId=self.target)

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str, seconds: float = 60) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        answer = self.chromium.call(
            "Runtime.evaluate",
            self.session,
            seconds=seconds,
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise BrowserError(thrown.get("exception", {}).get("description") or thrown["text"])
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> Any:
        """Return the value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(condition):
                return value
            time.sleep(0.05)
        raise BrowserError(f"after {seconds} seconds still not: {condition}; {self.errors}")

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files in an input of the page."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def drop(self, path: Path) -> None:
        """Drop a file or a folder on the page."""
        facts = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=50, y=50, data=facts)

    def press(self, key: str, code: str | None = None, text: str | None = None) -> None:
        """Press and release a key."""
        number = {"Tab": 9, "Enter": 13, " ": 32}.get(key, 0)
        facts = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", **facts, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def resize(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, to: Path, *, whole: bool = True) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        to.write_bytes(base64.b64decode(shot["data"]))


class Chromium:
    """A running browser.

    Args:
        flags: More flags of the command line.
        env: Environment variables.
    """

    def __init__(self, *flags: str) -> None:
        assert PROGRAM is not None
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # The shell puts the pipes at 3 and 4 without code between fork and exec.
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = [PROGRAM, *_FLAGS, *flags, f"--user-data-dir={self._folder.name}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": self._folder.name},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._write = os.fdopen(ours_out, "wb", buffering=0)
        self._read = os.fdopen(ours_in, "rb")
        self._count = 0
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def call(self, method: str, session: str = "", seconds: float = 60, **parameters: Any) -> Any:
        """Send a command and return its result."""
        answers: queue.Queue[dict[str, Any]] = queue.Queue()
        number = self._send(method, session, parameters, answers)
        try:
            message = answers.get(timeout=seconds)
        except queue.Empty:
            raise BrowserError(f"no answer to {method} within {seconds} seconds") from None
        finally:
            self._answers.pop(number, None)
        if "error" in message:
            raise BrowserError(f"{method}: {message['error']}")
        return message["result"]

    def page(self) -> Page:
        """Open a tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            page.call(f"{domain}.enable")
        page.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        return page

    def close(self) -> None:
        with contextlib.suppress(BrowserError, OSError):
            self.call("Browser.close", seconds=10)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._write.close()
        self._listener.join(10)
        self._read.close()
        self._folder.cleanup()

    def _send(
        self,
        method: str,
        session: str,
        parameters: dict[str, Any],
        answers: "queue.Queue[dict[str, Any]] | None" = None,
    ) -> int:
        with self._lock:
            self._count += 1
            number = self._count
            if answers is not None:
                self._answers[number] = answers
            message = {"id": number, "method": method, "params": parameters}
            self._write.write(
                json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
            )
        return number

    def _listen(self) -> None:
        held = b""
        while piece := self._read.read1(1 << 20):
            *messages, held = (held + piece).split(b"\0")
            for message in map(json.loads, messages):
                if answers := self._answers.get(message.get("id", 0)):
                    answers.put(message)
                elif "method" in message:
                    self._note(message["method"], message["params"], message.get("sessionId", ""))

    def _note(self, method: str, facts: dict[str, Any], session: str) -> None:
        page = self._pages.get(session)
        if page is None:
            return
        if method == "Target.attachedToTarget":
            worker = facts["sessionId"]
            self._pages[worker] = page
            for domain in ("Runtime", "Network", "Log"):
                self._send(f"{domain}.enable", worker, {})
            self._send("Runtime.runIfWaitingForDebugger", worker, {})
        elif method == "Network.requestWillBeSent":
            page.requests.append(facts["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            thrown = facts["exceptionDetails"]
            page.errors.append(thrown.get("exception", {}).get("description") or thrown["text"])
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
            page.errors.append(" ".join(str(each.get("value", each)) for each in facts["args"]))
        elif method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            page.errors.append(f"{facts['entry']['text']} {facts['entry'].get('url', '')}")


@contextlib.contextmanager
def started(*flags: str) -> Iterator[Chromium]:
    browser = Chromium(*flags)
    try:
        yield browser
    finally:
        browser.close()
