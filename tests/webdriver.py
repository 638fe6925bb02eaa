"""A headless Chromium driven by WebDriver (W3C) in plain JSON over HTTP: the commands that the tests need."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
)
KEYS = {"Space": "\ue00d", "Left": "\ue012", "Right": "\ue014", "Tab": "\ue004", "Enter": "\ue007"}


class Browser:
    """A session of chromedriver: the commands that these tests need."""

    def __init__(self, profile: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._process = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._base = f"http://127.0.0.1:{port}"
        try:
            self.wait(self._ready, 20)
            options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
            capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        except BaseException:
            self._stop()
            raise
        self._base += f"/session/{session['sessionId']}"

    def close(self) -> None:
        try:
            self._call("DELETE", "", None)
        finally:
            self._stop()

    def open(self, path: Path) -> None:
        self._call("POST", "/url", {"url": path.as_uri()})
        # The driver may answer sooner where the page was open before.
        self.wait(lambda: self.script("return document.readyState") == "complete")

    def script(self, code: str) -> Any:
        return self._call("POST", "/execute/sync", {"script": code, "args": []})

    def cdp(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def keys(self, *names: str) -> None:
        pressed = [KEYS.get(name, name) for name in names]
        actions = [{"type": kind, "value": key} for key in pressed for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def click(self, selector: str) -> None:
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        self._call("POST", f"/element/{next(iter(found.values()))}/click", {})

    def log(self) -> list[dict[str, Any]]:
        return self._call("POST", "/se/log", {"type": "browser"})

    def size(self, width: int, height: int) -> None:
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    @staticmethod
    def wait(until: Any, seconds: float = 10) -> Any:
        end = time.monotonic() + seconds
        while not (found := until()):
            if time.monotonic() > end:
                raise TimeoutError("the browser did not get there in time")
            time.sleep(0.05)
        return found

    def _ready(self) -> bool:
        try:
            return self._call("GET", "/status", None)["ready"]
        except urllib.error.URLError:
            return False

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        # Without proxies: the driver is on this machine.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)["value"]
