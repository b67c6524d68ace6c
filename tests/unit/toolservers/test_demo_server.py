"""The demo server's tools: confined to their roots, and bounded."""

import os
from pathlib import Path

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from toolservers.demo_server import Roots, build, disk_usage, machine_load, memory_usage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "big" / "deep").mkdir(parents=True)
    (root / "small").mkdir()
    (root / "big" / "one").write_bytes(b"x" * 100_000)
    (root / "big" / "deep" / "two").write_bytes(b"x" * 200_000)
    (root / "small" / "three").write_bytes(b"x" * 10_000)
    (root / "log").write_text("".join(f"line {n}\n" for n in range(1, 1001)))
    (tmp_path / "outside").write_text("secret\n")
    return root


@pytest.fixture
def roots(root: Path) -> Roots:
    return Roots([root])


def test_the_machine_is_described() -> None:
    assert machine_load().processors >= 1
    assert 0 < memory_usage().available <= memory_usage().total
    assert any(disk.mount == "/" for disk in disk_usage().disks)


def test_folders_are_ranked_by_all_they_hold(roots: Roots, root: Path) -> None:
    found = roots.biggest_folders(".", 2)
    assert [folder.path for folder in found.folders] == [
        str(root / "big"),
        str(root / "big" / "deep"),
    ]
    assert found.folders[0].files == 2
    assert found.folders[0].bytes > found.folders[1].bytes >= 200_000
    assert found.complete


def test_links_are_not_followed_when_sizes_are_added(roots: Roots, root: Path) -> None:
    before = roots.biggest_folders().folders
    (root / "small" / "loop").symlink_to(root)
    after = roots.biggest_folders().folders
    assert [f.path for f in after] == [f.path for f in before]
    assert after[0].bytes == before[0].bytes


def test_the_tail_of_a_file(roots: Roots) -> None:
    tail = roots.tail_file("log", 3)
    assert tail.lines == ["line 998", "line 999", "line 1000"]


@pytest.mark.parametrize("path", ["../outside", "link", "linked/outside", "/etc/passwd"])
def test_nothing_outside_of_the_roots_is_read(roots: Roots, root: Path, path: str) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    (root / "linked").symlink_to(root.parent)
    with pytest.raises(ToolError, match="outside of what this server may read"):
        roots.tail_file(path)


def test_a_root_is_not_a_prefix_of_its_neighbours_name(roots: Roots, root: Path) -> None:
    (root.parent / "root-2").mkdir()
    with pytest.raises(ToolError, match="outside"):
        roots.biggest_folders("../root-2")


def test_what_is_no_text_file_is_refused(roots: Roots, root: Path) -> None:
    (root / "binary").write_bytes(b"a\x00b")
    os.mkfifo(root / "pipe")
    for path, problem in [
        ("binary", "binary"),
        ("pipe", "not a regular file"),
        ("big", "not a regular file"),
        ("missing", "not found"),
        ("a\x00b", "not found"),
    ]:
        with pytest.raises(ToolError, match=problem):
            roots.tail_file(path)


def test_without_a_root_the_file_tools_say_how_to_give_one() -> None:
    with pytest.raises(ToolError, match="--root PATH"):
        Roots([]).tail_file("log")


async def test_every_tool_is_read_only_described_and_structured(root: Path) -> None:
    tools = await build([root]).list_tools()
    assert {tool.name for tool in tools} == {
        "machine_load",
        "memory_usage",
        "disk_usage",
        "biggest_folders",
        "tail_file",
    }
    for tool in tools:
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint is True
        assert tool.annotations.open_world_hint is False
        assert tool.description
        assert tool.output_schema


async def test_limits_are_part_of_the_schema(root: Path) -> None:
    tools = {tool.name: tool for tool in await build([root]).list_tools()}
    assert tools["tail_file"].input_schema["properties"]["lines"]["maximum"] == 500
    assert tools["biggest_folders"].input_schema["properties"]["limit"]["maximum"] == 100
