"""A Jupyter kernel that tests talk to, as a notebook does."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Seconds in which anything here would have happened, however slow the machine.
LONGEST = 300


@dataclass
class Shown:
    """What a cell made a notebook show."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [m["content"] for m in self.messages if m["msg_type"] == kind]

    @property
    def data(self) -> list[dict[str, Any]]:
        """By type, what was displayed or returned."""
        return [c["data"] for c in [*self.of("display_data"), *self.of("execute_result")]]

    @property
    def result(self) -> dict[str, Any]:
        (content,) = self.of("execute_result")
        return content["data"]

    @property
    def widgets(self) -> int:
        return sum("application/vnd.jupyter.widget-view+json" in data for data in self.data)

    @property
    def text(self) -> str:
        return "".join(content["text"] for content in self.of("stream"))

    @property
    def error(self) -> dict[str, Any]:
        (content,) = self.of("error")
        return content


class Kernel:
    """One kernel and its client."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager, self.client = manager, client

    def send(self, code: str) -> str:
        return self.client.execute(code)

    def wait(self, asked: str, until: str = "idle", *, shown: Shown | None = None) -> Shown:
        """Collect what a cell shows until it is done, or until something of a kind comes."""
        shown = shown or Shown()
        while True:
            message = self.client.get_iopub_msg(timeout=LONGEST)
            if message["parent_header"].get("msg_id") != asked:
                continue
            shown.messages.append(message)
            state = message["content"].get("execution_state")
            if until in {message["msg_type"], state}:
                return shown

    def run(self, code: str) -> Shown:
        shown = self.wait(self.send(code))
        assert not shown.of("error"), "\n".join(shown.error["traceback"])
        return shown

    def fails(self, code: str) -> dict[str, Any]:
        return self.wait(self.send(code)).error

    def complete(self, code: str) -> list[str]:
        reply = self.client.complete(code, reply=True, timeout=LONGEST)
        return reply["content"]["matches"]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Kernel]:
    """Yield a kernel that works in a folder, on sockets that no network has."""
    from jupyter_client.manager import KernelManager

    with tempfile.TemporaryDirectory(prefix="abc") as short, pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", short)
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", path.rstrip(os.pathsep))
        # a socket's path must be short
        manager = KernelManager(transport="ipc", ip=f"{short}/kernel", kernel_name="python3")
        manager.start_kernel(cwd=str(folder))
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=LONGEST)
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
