"""Photograph the page: `sweep page RUN` in one terminal, in another

    pip install websocket-client && python docs/page_picture.py http://127.0.0.1:7860 'ROMEO:'

It types the prompt, generates, and writes page.png beside this file. Chromium is driven by its own
protocol (https://chromedevtools.github.io/devtools-protocol). It fails if the page asked another
host for anything.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from websocket import create_connection

PICTURE = Path(__file__).with_name("page.png")
WIDTH, HEIGHT, COLOURS = 1000, 1000, 48
PORT = 9333
CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
CHROMIUM += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
CHROMIUM += [f"--remote-debugging-port={PORT}", "--remote-allow-origins=*", "about:blank"]
TEXTS = "[...document.querySelectorAll('.text textarea')]"


def main() -> None:
    link, prompt = sys.argv[1:]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen([*CHROMIUM, f"--user-data-dir={profile}"])
        try:
            photograph(link, prompt)
        finally:
            browser.terminate()
            browser.wait()


def photograph(link: str, prompt: str) -> None:
    socket, number, hosts = create_connection(_tab(), timeout=60), count(1), set[str]()

    def call(method: str, **params: Any) -> Any:
        mine = next(number)
        socket.send(json.dumps({"id": mine, "method": method, "params": params}))
        while (said := json.loads(socket.recv())).get("id") != mine:
            if said["method"] == "Network.requestWillBeSent":
                hosts.add(urlsplit(said["params"]["request"]["url"]).netloc)
        return said["result"]

    def until(expression: str) -> None:
        while not call("Runtime.evaluate", expression=expression)["result"].get("value"):
            time.sleep(0.2)

    call("Network.enable")
    call(
        "Emulation.setDeviceMetricsOverride",
        width=WIDTH,
        height=HEIGHT,
        deviceScaleFactor=1,
        mobile=False,
    )
    call("Page.navigate", url=link)
    until("document.body.innerText.includes('parameters')")
    call("Runtime.evaluate", expression="document.querySelector('textarea').focus()")
    call("Input.insertText", text=f"{prompt}\n")
    time.sleep(1)  # the page takes the text up
    call(
        "Runtime.evaluate",
        expression="[...document.querySelectorAll('button')]"
        ".find(button => button.innerText == 'Generate').click()",
    )
    until(f"{TEXTS}.every(text => text.value.length > {len(prompt)} + 150)")
    time.sleep(3)  # the last of it
    picture = call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
    pixels = Image.open(BytesIO(base64.b64decode(picture)))
    pixels.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    hosts.discard("")  # blob: and data: are of no host
    assert hosts == {urlsplit(link).netloc}, hosts


def _tab() -> str:
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/json") as answer:
                tabs = json.load(answer)
            return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        except (OSError, StopIteration):
            time.sleep(0.2)


if __name__ == "__main__":
    main()
