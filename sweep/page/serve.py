"""The page on this machine alone, until Ctrl-C."""

from __future__ import annotations

import importlib.util
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from sweep.errors import SweepError
from sweep.page.app import Offered, looks, page

HOST = "127.0.0.1"  # whoever opens the page lets this machine compute


def need_gradio() -> None:
    """Raises SweepError if it is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise SweepError(
            "a page is served by gradio, which is not installed",
            hint="pip install 'sweep[page]'; --export writes a Space without it.",
        )


def need_port(port: int) -> None:
    """Raises SweepError if something answers there."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        raise SweepError(f"{HOST}:{port} is taken", hint="--port names another.")


def serve(title: str, models: Sequence[Offered], port: int, ready: Callable[[str], None]) -> None:
    """Serve the page until KeyboardInterrupt; `ready` gets its link once it answers."""
    blocks = page(title, models)
    try:
        _, link, _ = blocks.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=False,
            ssr_mode=False,  # by a server of Node's, where there is one
            prevent_thread_lock=True,
            quiet=True,
            **looks(),
        )
    except OSError as error:
        raise SweepError(f"no page can be served on {HOST}:{port}", [str(error)]) from None
    try:
        ready(link)
        threading.Event().wait()
    finally:
        blocks.close(verbose=False)
