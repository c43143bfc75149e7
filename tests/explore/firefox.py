"""A real Firefox on a screen of its own, driven over a socket by WebDriver BiDi.

It has no WebGL without a screen, so Xvfb makes one that nobody sees.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from tornado.websocket import websocket_connect

from tests.explore.browser import PATIENCE, Tab

NAMES = ("firefox-esr", "firefox")

PREFERENCES = {
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "dom.w3c_touch_events.enabled": 1,
    "extensions.update.enabled": False,
    "gfx.webrender.software": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
    "webgl.force-enabled": True,
}

EVENTS = ["network.beforeRequestSent", "log.entryAdded"]

# Names of keys that are no character, as WebDriver has them.
KEYS = {
    "Shift": "\ue008",
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "Tab": "\ue004",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
}


def found():
    """The path of a Firefox; None where there is none, or no Xvfb."""
    there = next((path for name in NAMES if (path := shutil.which(name))), None)
    return there if shutil.which("Xvfb") else None


def _screen():
    """Start an Xvfb; return its process, and what DISPLAY must be."""
    told, fd = os.pipe()
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(fd), "-screen", "0", "1400x1000x24", "-nolisten", "tcp"],
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(fd)
    with os.fdopen(told) as pipe:
        return process, f":{pipe.readline().strip()}"


class Firefox:
    """One Firefox with tabs; `with Firefox(folder) as browser`."""

    kind = "firefox"

    def __init__(self, folder: Path):
        profile = folder / "profile"
        profile.mkdir()
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
        self._log = folder / "firefox.log"
        self.screen, display = _screen()
        command = [found(), "--remote-debugging-port", "0", "--profile", str(profile)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"HOME": str(folder), "DISPLAY": display},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._loop = asyncio.new_event_loop()
        self._numbers = itertools.count(1)
        self._events = []
        self._socket = self._loop.run_until_complete(self._connected())
        self.call("session.new", capabilities={})
        self.call("session.subscribe", events=EVENTS)

    async def _connected(self):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            told = re.search(rb"BiDi listening on (ws://\S+)", self._log.read_bytes())
            if told:
                address = told[1].decode() + "/session"
                return await websocket_connect(address, max_message_size=1 << 28)
            await asyncio.sleep(0.1)
        raise TimeoutError(f"Firefox does not start: {self._log.read_text()[-500:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("browser.close")
            self.process.wait(10)
        except (OSError, EOFError, TimeoutError, RuntimeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.screen.terminate()
        self.screen.wait()
        self._socket.close()
        self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    async def _receive(self, patience):
        message = await asyncio.wait_for(self._socket.read_message(), patience)
        if message is None:
            raise EOFError("Firefox is gone")
        return json.loads(message)

    async def _call(self, method, params):
        number = next(self._numbers)
        await self._socket.write_message(
            json.dumps({"id": number, "method": method, "params": params})
        )
        while True:
            answer = await self._receive(PATIENCE)
            if answer.get("id") == number:
                if answer["type"] == "error":
                    raise RuntimeError(f"{method}: {answer['error']}: {answer['message']}")
                return answer["result"]
            self._events.append(answer)

    def call(self, method, **params):
        return self._loop.run_until_complete(self._call(method, params))

    def drain(self):
        """Take what the browser told without being asked."""
        self.call("session.status")  # events come in order, before its answer
        events, self._events = self._events, []
        return events

    def page(self, url, **look):
        """Open a tab of its own."""
        return FirefoxPage(self).show(url, **look)


class FirefoxPage(Tab):
    """A tab of Firefox."""

    def __init__(self, browser):
        super().__init__()
        self.browser = browser
        self.context = browser.call("browsingContext.create", type="tab")["context"]

    def call(self, method, **params):
        return self.browser.call(method, context=self.context, **params)

    def resize(self, width, height, *, touch=False):
        viewport = {"width": width, "height": height}
        self.call("browsingContext.setViewport", viewport=viewport, devicePixelRatio=1)

    def prefer(self, *, dark):
        """Choose by the page's own button: nothing tells Firefox of one tab alone."""
        self.is_dark = dark

    def open(self, url):
        self.call("browsingContext.navigate", url=url, wait="interactive")

    def ready(self):
        super().ready()
        if self.is_dark:
            self.click("#theme")
        return self

    def hear(self):
        for event in self.browser.drain():
            kind, params = event.get("method"), event.get("params", {})
            if params.get("context", params.get("source", {}).get("context")) != self.context:
                continue
            if kind == "network.beforeRequestSent":
                self.requests.append(params["request"]["url"])
            elif kind == "log.entryAdded" and params["level"] == "error":
                self.complaints.append(params["text"])
        return self

    def plain(self, code):
        """Evaluate JavaScript; a promise is waited for."""
        done = self.browser.call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify({{ value: await ({code}) }}))()",
            target={"context": self.context},
            awaitPromise=True,
            userActivation=True,
        )
        if done["type"] == "exception":
            raise RuntimeError(done["exceptionDetails"]["text"])
        return json.loads(done["result"]["value"]).get("value")

    def _perform(self, *actions):
        self.call("input.performActions", actions=list(actions))

    def drag(self, points):
        self._perform(_pointer("mouse", "mouse", points))

    def key(self, key, *, shift=False):
        keys = [KEYS["Shift"]] * shift + [KEYS.get(key, key)]
        downs = [{"type": "keyDown", "value": k} for k in keys]
        ups = [{"type": "keyUp", "value": k} for k in reversed(keys)]
        self._perform({"type": "key", "id": "keys", "actions": downs + ups})

    def fingers(self, *moves):
        """Move one finger or two along places, from touching the page to leaving it."""
        self._perform(
            *(
                _pointer("touch", f"finger-{k}", path)
                for k, path in enumerate(zip(*moves, strict=True))
            )
        )

    def screenshot(self, path=None):
        data = base64.b64decode(self.call("browsingContext.captureScreenshot")["data"])
        if path:
            Path(path).write_bytes(data)
        return data

    def close(self):
        self.call("browsingContext.close")


def _pointer(kind, name, points):
    """The actions of a pointer that is pressed at the first point and let go at the last."""

    def move(point, took):
        x, y = (round(v) for v in point)
        return {"type": "pointerMove", "x": x, "y": y, "duration": took}

    down, up = ({"type": f"pointer{way}", "button": 0} for way in ("Down", "Up"))
    actions = [move(points[0], 0), down, *(move(p, 16) for p in points[1:]), up]
    return {"type": "pointer", "id": name, "parameters": {"pointerType": kind}, "actions": actions}
