"""The scripted model server beside a test: a thread with its own event loop."""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from runs.scripted.scenario import Script
from runs.scripted.server import Received, ScriptedServer


class ScriptedModel:
    """A scripted model server that lives as long as the ``with`` block (plain or async).

    Give it a file, a scenario file's content, or only its list of scenarios. It listens on a free
    port of 127.0.0.1; a client uses :attr:`base_url`.
    """

    def __init__(self, script: Path | Mapping[str, Any] | list[dict[str, Any]]) -> None:
        if isinstance(script, Path):
            self._script = Script.load(script)
        elif isinstance(script, list):
            self._script = Script.parse({"scenarios": script})
        else:
            self._script = Script.parse(script)
        self._received: list[Received] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-model")
        self._server = ScriptedServer(self._script, on_request=self._received.append)
        self.base_url = ""

    @property
    def requests(self) -> tuple[Received, ...]:
        """Every chat-completions request so far, oldest first."""
        return tuple(self._received)

    @property
    def counts(self) -> Counter[str]:
        """How many requests asked for each model."""
        return Counter(received.model for received in self.requests)

    def start(self) -> Self:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._server.start("127.0.0.1", 0), self._loop)
        self.base_url = f"http://127.0.0.1:{starting.result(timeout=10)}/v1"
        return self

    def stop(self) -> None:
        """Cut every connection and end the thread."""
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        self.stop()
