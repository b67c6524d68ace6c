"""Lines of an authorized_keys file."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshgw.authorized_keys import VoidLine, parse, read

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP0xrFvyILrMGYIs5sgyrKxcUubDtyJFtYxLEsrfFwNM"
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_the_comment_names_the_user() -> None:
    entry = parse(f"{KEY} alice")
    assert entry is not None
    assert entry.username == "alice"
    assert entry.fingerprint.startswith("SHA256:")
    assert entry.admits("192.0.2.1", NOW)


def test_the_environment_option_outranks_the_comment() -> None:
    entry = parse(f'environment="LANG=C",environment="STATION_USER=bob" {KEY} alice')
    assert entry is not None
    assert entry.username == "bob"


@pytest.mark.parametrize("line", ["", "   ", "# a comment", f"#{KEY} alice"])
def test_empty_lines_and_comments_say_nothing(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{KEY}", "no user"),
        (f'environment="STATION_USER=" {KEY} alice', "no user"),
        (f'command="true" {KEY} alice', "command"),
        (f"cert-authority {KEY} alice", "cert-authority"),
        (f'principals="a" {KEY} alice', "principals"),
        (f"verify-required {KEY} alice", "verify-required"),
        (f'expiry-time="2026" {KEY} alice', "expiry-time"),
        (f'expiry-time="20269901" {KEY} alice', "expiry-time"),
        (f'from="10.0.0.1 {KEY} alice', "cannot be read"),
        ("ssh-ed25519 AAAA alice", "not an OpenSSH public key"),
        ("nonsense", "cannot be read|not an OpenSSH"),
    ],
)
def test_what_cannot_be_followed_to_the_letter_lets_nobody_in(line: str, why: str) -> None:
    with pytest.raises(VoidLine, match=why):
        parse(line)


def test_options_about_what_is_never_granted_change_nothing() -> None:
    entry = parse(f'restrict,pty,no-X11-forwarding,permitopen="h:1" {KEY} alice')
    assert entry is not None
    assert entry.admits("192.0.2.1", NOW)


@pytest.mark.parametrize(
    ("patterns", "address", "admitted"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.*", "10.1.2.3", True),
        ("10.0.0.0/8,!10.9.0.0/16", "10.9.1.1", False),
        ("10.0.0.0/8,!10.9.0.0/16", "10.8.1.1", True),
        ("!10.9.0.0/16", "10.8.1.1", False),
        ("2001:db8::/32", "2001:db8::7", True),
        ("2001:db8::/32", "10.1.2.3", False),
        ("example.com", "10.1.2.3", False),
    ],
)
def test_from_narrows_the_addresses(patterns: str, address: str, admitted: bool) -> None:
    entry = parse(f'from="{patterns}" {KEY} alice')
    assert entry is not None
    assert entry.admits(address, NOW) is admitted


def test_an_expired_line_admits_nobody() -> None:
    entry = parse(f'expiry-time="20260501Z" {KEY} alice')
    assert entry is not None
    assert not entry.admits("192.0.2.1", NOW)
    assert entry.admits("192.0.2.1", NOW - timedelta(seconds=1))


@given(st.text())
def test_no_line_breaks_the_parser(text: str) -> None:
    for line in (text, f"{text} {KEY} alice", f'from="{text}" {KEY} alice', f"{KEY} {text}"):
        try:
            entry = parse(line)
        except VoidLine:
            continue
        if entry is not None:
            entry.admits("10.0.0.1", NOW)


def test_one_void_line_does_not_void_the_others(tmp_path: Path) -> None:
    path = tmp_path / "authorized_keys"
    path.touch(mode=0o600)
    path.write_text(f"junk\n{KEY} alice\n")
    assert [entry.username for entry in read(path)] == ["alice"]


def test_a_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "authorized_keys"
    path.write_text(f"{KEY} alice\n")
    path.chmod(0o666)
    assert read(path) == []


def test_a_missing_file_lets_nobody_in(tmp_path: Path) -> None:
    assert read(tmp_path / "missing") == []
