"""The identity of a tool server's definition, and what it gives away about itself."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolservers.definition import ServerDefinition, ToolSpec

BASE = ServerDefinition(
    server_id=1,
    environment_id=7,
    name="files",
    transport="stdio",
    command="npx",
    args=("-y", "files", "--token=s3cret-arg"),
    env={"TOKEN": "s3cret-env"},
    url="https://user:s3cret-url@example.test/s3cret-path?key=s3cret-query",
    headers={"authorization": "s3cret-header"},
    secrets=("s3cret-env",),
)


def test_the_pool_key_names_the_environment_and_a_whole_sha256() -> None:
    environment, _, digest = BASE.pool_key.partition(":")
    assert environment == "7"
    assert len(digest) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"server_id": 2},
        {"environment_id": 8},
        {"name": "other"},
        {"transport": "http"},
        {"command": "uvx"},
        {"args": ("-y", "files", "--token=s3cret-arG")},
        {"env": {"TOKEN": "s3cret-enV"}},
        {"env": {"TOKEN": "s3cret-env", "EXTRA": ""}},
        {"url": "https://example.test/"},
        {"headers": {"authorization": "other"}},
        {"request_timeout": 31.0},
        {"secrets": ()},
    ],
)
def test_any_difference_makes_another_pool_key(change: dict[str, object]) -> None:
    assert dataclasses.replace(BASE, **change).pool_key != BASE.pool_key  # type: ignore[arg-type]


def test_the_order_of_variables_makes_no_difference() -> None:
    one = dataclasses.replace(BASE, env={"A": "1", "B": "2"})
    other = dataclasses.replace(BASE, env={"B": "2", "A": "1"})
    assert one.pool_key == other.pool_key


def test_a_definition_does_not_change_with_the_dict_it_was_made_from() -> None:
    env = {"TOKEN": "one"}
    definition = dataclasses.replace(BASE, env=env)
    env["TOKEN"] = "two"
    assert definition.env["TOKEN"] == "one"


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_repr_shows_no_secret(transport: str) -> None:
    shown = repr(dataclasses.replace(BASE, transport=transport))  # type: ignore[arg-type]
    assert "s3cret" not in shown
    assert ("npx" if transport == "stdio" else "https://example.test") in shown


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_arguments_cannot_be_regrouped_into_the_same_key(one: list[str], other: list[str]) -> None:
    keys = [dataclasses.replace(BASE, args=tuple(args)).pool_key for args in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


def test_the_digest_of_a_tool_changes_with_every_part_of_its_description() -> None:
    tool = ToolSpec(name="t", description="d", input_schema={"type": "object"}, annotations={})
    variants = [
        tool,
        dataclasses.replace(tool, name="u"),
        dataclasses.replace(tool, description="e"),
        dataclasses.replace(tool, input_schema={"type": "object", "properties": {}}),
        dataclasses.replace(tool, annotations={"readOnlyHint": True}),
    ]
    assert len({variant.digest for variant in variants}) == len(variants)
