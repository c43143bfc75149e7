"""A real headless Chromium, driven over a pipe by its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)

PATIENCE = 60.0

# The page's own module once the document is whole: scripts out of a cache are there before.
_APP = (
    "(document.readyState === 'loading' ? new Promise((done) => "
    "document.addEventListener('DOMContentLoaded', done)) : Promise.resolve())"
    ".then(() => import('./app.js'))"
)


def found():
    """The path of a Chromium; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One Chromium with tabs; `with Browser(folder) as browser`."""

    kind = "chromium"

    def __init__(self, folder: Path, flags=()):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        log = (folder / "chromium.log").open("wb")

        command = [found(), *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self.process = subprocess.Popen(
            # the browser reads from 3 and writes to 4
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        os.close(to_browser)
        os.close(from_browser)
        self._numbers = itertools.count(1)
        self._rest = b""
        self._events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, EOFError, TimeoutError, RuntimeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self._in)
        os.close(self._out)

    def _receive(self, until):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise EOFError("Chromium is gone")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def call(self, method, session=None, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        until = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(until)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._events.append(answer)

    def drain(self):
        """Take what the browser told without being asked."""
        while select.select([self._in], [], [], 0)[0] or b"\0" in self._rest:
            self._events.append(self._receive(time.monotonic() + 1))
        events, self._events = self._events, []
        return events

    def page(self, url, **look):
        """Open a tab of its own."""
        return Page(self).show(url, **look)


class Tab:
    """A tab: what it asked for, what it complained of, and hands on its mouse and keys."""

    def __init__(self):
        self.requests, self.complaints, self.received = [], [], 0

    def show(self, url, *, width=1280, height=800, dark=False, touch=False):
        """Load a page anew, whatever was shown before."""
        self.resize(width, height, touch=touch)
        self.prefer(dark=dark)
        self.open("about:blank")
        self.hear()
        self.requests, self.complaints, self.received = [], [], 0
        self.open(url)
        return self

    def run(self, code):
        """Evaluate JavaScript in the page; `app` is the page's own."""
        if code.startswith("="):
            return self.plain(f"{_APP}.then(async ({{ app }}) => ({code[1:]}))")
        return self.plain(f"{_APP}.then(async ({{ app }}) => {{ {code} }})")

    def wait(self, code, patience=PATIENCE):
        """Wait until an expression is true; returns it."""
        until = time.monotonic() + patience
        while True:
            try:
                value = self.run(f"={code}")
            except RuntimeError:
                value = None
            if value:
                return value
            if time.monotonic() > until:
                raise TimeoutError(f"never true: {code}; {self.hear().complaints}")
            time.sleep(0.02)

    def ready(self):
        self.wait("app.complete && !!document.getElementById('panel').firstChild")
        self.run("await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 30)))")
        return self

    def click(self, selector):
        box = self.plain(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        self.drag([box])


class Page(Tab):
    """A tab of Chromium."""

    def __init__(self, browser):
        super().__init__()
        self.browser = browser
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)
        self.target = target["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def resize(self, width, height, *, touch=False):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def prefer(self, *, dark):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url):
        self.call("Page.navigate", url=url)

    def hear(self):
        """Note requests and complaints up to now."""
        for event in self.browser.drain():
            if event.get("sessionId") != self.session:
                continue
            kind, params = event.get("method"), event.get("params", {})
            if kind == "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            elif kind == "Network.loadingFinished":
                self.received += int(params["encodedDataLength"])
            elif kind == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"])[:600])
            elif kind == "Log.entryAdded" and params["entry"]["level"] == "error":
                self.complaints.append(params["entry"]["text"] + params["entry"].get("url", ""))
        return self

    def plain(self, code):
        """Evaluate JavaScript; a promise is waited for."""
        done = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(json.dumps(done["exceptionDetails"])[:800])
        return done["result"].get("value")

    def mouse(self, kind, x, y, *, button="left", modifiers=0):
        held = 0 if kind == "mouseReleased" or button == "none" else 1
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            buttons=held,
            clickCount=1,
            modifiers=modifiers,
        )

    def drag(self, points, *, modifiers=0):
        self.mouse("mousePressed", *points[0], modifiers=modifiers)
        for point in points[1:]:
            self.mouse("mouseMoved", *point, modifiers=modifiers)
        self.mouse("mouseReleased", *points[-1], modifiers=modifiers)

    def key(self, key, *, shift=False):
        held = 8 if shift else 0
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=held)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=held)

    def fingers(self, *moves):
        """Move one finger or two along places, from touching the page to leaving it."""
        for k, places in enumerate(moves):
            points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
            kind = "touchMove" if k else "touchStart"
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self, path=None):
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path:
            Path(path).write_bytes(data)
        return data

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)
