"""The demo's tool server: looks at this machine, changes nothing.

``python -m toolservers.demo_server --root /var/log`` speaks MCP over stdio; ``--http PORT`` over
HTTP on 127.0.0.1. File tools see only what lies under a ``--root``, symbolic links resolved.
"""

import argparse
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import psutil
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from toolservers.serving import add_transport_options, serve

WALK_SECONDS = 10.0
MOST_LINES = 500
MOST_BYTES = 256 * 1024
LOOKS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


class Load(BaseModel):
    """Load averages: processes that run or wait to run."""

    one_minute: float
    five_minutes: float
    fifteen_minutes: float
    processors: int = Field(description="A load above this number means processes wait.")


class Memory(BaseModel):
    """Physical memory and swap, in bytes."""

    total: int
    available: int = Field(description="What programs can still get without swapping.")
    used_percent: float
    swap_total: int
    swap_used: int


class Disk(BaseModel):
    """One file system, in bytes."""

    mount: str
    total: int
    free: int
    used_percent: float


class Disks(BaseModel):
    """The mounted file systems, the fullest first."""

    disks: list[Disk]


class Folder(BaseModel):
    """A folder with all it holds, folders below it included."""

    path: str
    bytes: int
    files: int


class BiggestFolders(BaseModel):
    """The biggest folders below a root, the biggest first."""

    root: str
    folders: list[Folder]
    complete: bool = Field(description="False: time ran out, sizes are lower bounds.")


class Tail(BaseModel):
    """The end of a text file."""

    path: str
    size: int = Field(description="Bytes of the whole file.")
    lines: list[str]


def machine_load() -> Load:
    """How busy the machine is: load averages of 1, 5 and 15 minutes, and its processors."""
    one, five, fifteen = os.getloadavg()
    return Load(
        one_minute=round(one, 2),
        five_minutes=round(five, 2),
        fifteen_minutes=round(fifteen, 2),
        processors=os.cpu_count() or 1,
    )


def memory_usage() -> Memory:
    """How much memory and swap the machine has, and how much is in use."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return Memory(
        total=memory.total,
        available=memory.available,
        used_percent=memory.percent,
        swap_total=swap.total,
        swap_used=swap.used,
    )


def disk_usage() -> Disks:
    """How full each mounted file system is. Use biggest_folders to see what fills one."""
    mounts = {part.mountpoint for part in psutil.disk_partitions(all=False)} | {"/"}
    found = []
    for mount in mounts:
        try:
            usage = psutil.disk_usage(mount)
        except OSError:
            continue
        if usage.total:
            found.append(
                Disk(mount=mount, total=usage.total, free=usage.free, used_percent=usage.percent)
            )
    return Disks(disks=sorted(found, key=lambda disk: (-disk.used_percent, disk.mount)))


class Roots:
    """The folders the file tools may look into."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = [path.resolve() for path in paths]

    def admit(self, path: str) -> Path:
        """``path``, links resolved, if it exists below a root. Raises :class:`ToolError`."""
        if not self._paths:
            raise ToolError("No root was given to this server: start it with --root PATH.")
        try:
            resolved = (self._paths[0] / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            raise ToolError(f"{path}: not found. Paths may begin at: {self}") from None
        if not any(resolved.is_relative_to(root) for root in self._paths):
            raise ToolError(f"{path}: outside of what this server may read. Allowed: {self}")
        return resolved

    def __str__(self) -> str:
        return ", ".join(map(str, self._paths))

    def biggest_folders(
        self,
        root: Annotated[str, Field(description="A folder; relative to the first root.")] = ".",
        limit: Annotated[int, Field(ge=1, le=100, description="How many to return.")] = 10,
    ) -> BiggestFolders:
        """Which folders below a root take the most disk space. Symbolic links are not followed."""
        top = self.admit(root)
        if not top.is_dir():
            raise ToolError(f"{root}: not a folder.")
        sizes: dict[str, list[int]] = {}
        complete = True
        deadline = time.monotonic() + WALK_SECONDS
        for folder, size in _files_below(top):
            if time.monotonic() > deadline:
                complete = False
                break
            while len(folder) > len(str(top)):
                total = sizes.setdefault(folder, [0, 0])
                total[0] += size
                total[1] += 1
                folder = os.path.dirname(folder)  # noqa: PLW2901 - climbing to the root
        biggest = sorted(sizes.items(), key=lambda item: (-item[1][0], item[0]))[:limit]
        return BiggestFolders(
            root=str(top),
            folders=[Folder(path=path, bytes=size, files=n) for path, (size, n) in biggest],
            complete=complete,
        )

    def tail_file(
        self,
        path: Annotated[str, Field(description="A file; relative to the first root.")],
        lines: Annotated[
            int, Field(ge=1, le=MOST_LINES, description="How many lines from the end.")
        ] = 20,
    ) -> Tail:
        """The last lines of a text file below a root, at most 256 KiB of them."""
        resolved = self.admit(path)
        try:
            # Not blocking: opening a named pipe would wait for a writer for ever.
            descriptor = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise ToolError(f"{path}: {error.strerror}.") from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise ToolError(f"{path}: not a regular file.")
        with open(descriptor, "rb") as file:
            file.seek(max(0, status.st_size - MOST_BYTES))
            end = file.read(MOST_BYTES)
        if b"\x00" in end:
            raise ToolError(f"{path}: a binary file, not text.")
        text = end.decode("utf-8", "replace").splitlines()
        return Tail(path=str(resolved), size=status.st_size, lines=text[-lines:])


def _files_below(top: Path) -> Iterator[tuple[str, int]]:
    """Each file's folder and size on disk; stays on the file system of ``top``."""
    device = top.stat().st_dev
    open_folders = [str(top)]
    while open_folders:
        folder = open_folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        if status.st_dev == device:
                            open_folders.append(entry.path)
                    else:
                        yield folder, status.st_blocks * 512
        except OSError:
            # Unreadable or just deleted: what can be seen is still worth telling.
            continue


def build(roots: list[Path]) -> MCPServer:
    """The server, with file tools confined to ``roots``."""
    server = MCPServer(
        "station-demo",
        version="1.0",
        instructions="Inspects the machine it runs on. Read-only.",
        log_level="WARNING",
    )
    allowed = Roots(roots)
    for function in (
        machine_load,
        memory_usage,
        disk_usage,
        allowed.biggest_folders,
        allowed.tail_file,
    ):
        server.add_tool(function, annotations=LOOKS, structured_output=True)
    return server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m toolservers.demo_server", description=__doc__)
    parser.add_argument("--root", type=Path, action="append", default=[], metavar="PATH")
    add_transport_options(parser)
    options = parser.parse_args()
    serve(build(options.root), options)


if __name__ == "__main__":
    main()
