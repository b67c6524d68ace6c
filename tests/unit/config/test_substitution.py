import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.config.problems import Refused
from station.config.substitution import UnsetVariable, substitute

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
ORDINARY = st.text().filter(lambda text: "${" not in text and not text.endswith("$"))
DEFAULTS = st.text().filter(
    lambda text: "}" not in text and "${" not in text and not text.startswith("-")
)


@given(NAMES, st.text(min_size=1), ORDINARY, st.text().filter(lambda text: "${" not in text))
def test_a_value_goes_in_as_it_is(name: str, value: str, before: str, after: str) -> None:
    assert substitute(f"{before}${{{name}}}{after}", {name: value}) == before + value + after


@given(NAMES, DEFAULTS)
def test_a_default_is_used_when_the_variable_is_unset_or_empty(name: str, default: str) -> None:
    text = f"${{{name}:{default}}}"
    assert substitute(text, {}) == substitute(text, {name: ""}) == default


@given(NAMES, DEFAULTS, st.text(min_size=1))
def test_a_variable_wins_over_the_default(name: str, default: str, value: str) -> None:
    assert substitute(f"${{{name}:{default}}}", {name: value}) == value


@given(ORDINARY)
def test_text_without_placeholders_is_left_alone(text: str) -> None:
    assert substitute(text, {"A": "b"}) == text


@given(st.text(alphabet="${}:-AB_1 ", max_size=30))
def test_any_text_is_filled_in_or_refused(text: str) -> None:
    try:
        filled = substitute(text, {"A": "value"})
    except (Refused, UnsetVariable):
        assert "${" in text
    else:
        assert "${" not in filled or "$${" in text


def test_what_a_variable_holds_is_not_scanned_again() -> None:
    assert substitute("${A}", {"A": "${B}", "B": "no"}) == "${B}"


def test_several_placeholders_are_filled_in() -> None:
    url = "postgresql://${USER}:${PASSWORD}@${HOST:db}/station"
    filled = substitute(url, {"USER": "u", "PASSWORD": "p"})
    assert filled == "postgresql://u:p@db/station"


def test_a_default_may_hold_colons_and_slashes() -> None:
    assert substitute("${URL:redis://h:1/0}", {}) == "redis://h:1/0"


def test_two_dollars_stand_for_a_literal_placeholder() -> None:
    assert substitute("$${A} ${A} $A $$", {"A": "x"}) == "${A} x $A $$"


@pytest.mark.parametrize(("text", "whole"), [("${A}", True), (" ${A}", False), ("${A}${A}", False)])
def test_an_unset_variable_is_named(text: str, whole: bool) -> None:
    with pytest.raises(UnsetVariable) as caught:
        substitute(text, {"A": ""})
    assert (caught.value.name, caught.value.whole) == ("A", whole)


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1}", "${A B}", "${A:${B}}", "${A:-b}"])
def test_a_malformed_placeholder_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        substitute(text, {"A": "a", "B": "b"})
