"""Chromium without a window, driven over its DevTools protocol by a pipe: no driver and no package are needed."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PATIENCE = 60


class Browser:
    """A browser with an empty profile, until the block ends."""

    def __init__(self, program=None):
        self.program = program or os.environ.get("CHROMIUM") or shutil.which("chromium")

    def __enter__(self):
        assert self.program, "found no chromium: `cargo xtask page` unpacks it"
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # The browser reads from its file 3 and writes to its file 4; their copies must not be 3 or 4 themselves.
        (theirs_in, ours_out), (ours_in, theirs_out) = (map(high, os.pipe()) for _ in range(2))
        flags = [
            "--headless", "--no-sandbox", "--remote-debugging-pipe", f"--user-data-dir={self.profile.name}", "--no-first-run",
            "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-background-networking", "--no-proxy-server",
            "--disable-component-update", "--disable-sync", "--metrics-recording-only", "--font-render-hinting=none", "--disable-lcd-text",
        ]  # fmt: skip
        libraries = os.environ.get("CHROMIUM_LIBRARIES")
        libraries = {"LD_LIBRARY_PATH": libraries} if libraries else {}
        self.process = subprocess.Popen(
            [self.program, *flags, "about:blank"],
            preexec_fn=lambda: (os.dup2(theirs_in, 3), os.dup2(theirs_out, 4)),
            pass_fds=(3, 4),
            stderr=subprocess.DEVNULL,
            env=os.environ | libraries | {"HOME": self.profile.name},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.input, self.output = os.fdopen(ours_in, "rb", buffering=0), os.fdopen(ours_out, "wb", buffering=0)
        self.buffer, self.number, self.events = b"", 0, []
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.input.close()
        self.output.close()
        self.profile.cleanup()

    def message(self):
        while b"\0" not in self.buffer:
            assert select.select([self.input], [], [], PATIENCE)[0], f"{self.program} said nothing for {PATIENCE} s"
            part = self.input.read(1 << 20)
            assert part, f"{self.program} ended with status {self.process.wait(PATIENCE)}"
            self.buffer += part
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def send(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        self.output.write(json.dumps(message).encode() + b"\0")
        return self.number

    def call(self, method, session=None, **parameters):
        """The result of a command. Events that come before it are kept, and paused requests are decided on."""
        number = self.send(method, session, **parameters)
        while True:
            message = self.message()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            if "method" in message:
                self.events.append(message)
                if message["method"] == "Fetch.requestPaused":
                    self.decide(message["sessionId"], message["params"])

    def decide(self, session, paused):
        self.requests.append(paused["request"]["url"])
        if paused["request"]["url"].startswith(self.origin):
            headers = paused["request"]["headers"] | ({"authorization": f"Bearer {self.token}"} if self.token else {})
            headers = [{"name": name, "value": value} for name, value in headers.items()]
            self.send("Fetch.continueRequest", session, requestId=paused["requestId"], headers=headers)
        else:
            self.send("Fetch.failRequest", session, requestId=paused["requestId"], errorReason="BlockedByClient")

    def wait_for(self, event, session):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for place, message in enumerate(self.events):
                if message["method"] == event and message.get("sessionId") == session:
                    return self.events.pop(place)["params"]
            self.call("Target.getTargets")
        raise AssertionError(f"no {event} within {PATIENCE} s")

    def tab(self, origin, token=None):
        """A tab from which only requests to one origin leave. All that it asks for is noted."""
        self.origin, self.token, self.requests = origin, token, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable", session)
        self.call("Fetch.enable", session, patterns=[{"urlPattern": "*"}])
        return Tab(self, session)


class Tab:
    """A page of the browser."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def shape(self, width, scheme, height=900):
        """The size of the window in CSS pixels, and the colour scheme that its reader prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, path):
        """Opens a page, and waits until it is there."""
        self.browser.events.clear()
        url = path if "://" in path else f"{self.browser.origin}/{path}"
        found = self.call("Page.navigate", url=url)
        assert "errorText" not in found, f"{url}: {found}"
        self.browser.wait_for("Page.loadEventFired", self.session)
        return self

    def evaluate(self, expression):
        """The value of an expression of JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key, code, text=None):
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    def picture(self, file, height=None):
        """Writes a picture of the page, or of its first pixels."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], height or 16_000), "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True, optimizeForSpeed=False)
        Path(file).write_bytes(base64.b64decode(found["data"]))


def high(file):
    """A copy of an open file with a number above those that children know."""
    copy = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(file)
    return copy
