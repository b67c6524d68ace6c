import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.config.problems import Refused
from station.config.secrets import MASK, SecretText, SecretUrl, decode_key, mask_url
from tests.unit.config.support import load_text, problems_of

KEYS = st.binary(min_size=32, max_size=32)
PASSWORDS = st.text(alphabet="abcXYZ019%-_.~!$&'()*+,;=:@", min_size=1).map(lambda t: f"Q{t}Q")


@given(KEYS)
def test_a_key_is_read_in_hex_and_in_both_base64_alphabets(key: bytes) -> None:
    for text in (key.hex(), key.hex().upper(), f" {key.hex()}\n"):
        assert decode_key(text) == key
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert decode_key(encode(key).decode()) == key
        assert decode_key(encode(key).decode().rstrip("=")) == key


@given(st.binary(max_size=64).filter(lambda raw: len(raw) != 32))
def test_a_key_of_another_length_is_refused_in_either_form(raw: bytes) -> None:
    for text in (raw.hex(), base64.b64encode(raw).decode()):
        with pytest.raises(Refused):
            decode_key(text)


@given(st.text())
def test_any_text_is_a_key_of_32_bytes_or_refused(text: str) -> None:
    try:
        key = decode_key(text)
    except Refused:
        return
    assert len(key) == 32


def test_hex_is_tried_before_base64() -> None:
    assert decode_key("abcd" * 16) == bytes.fromhex("abcd" * 16)


@pytest.mark.parametrize("text", ["x", "=" * 44, "+" * 20 + "-" * 23, "a" * 43 + "!", "é" * 43])
def test_what_is_no_encoding_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        decode_key(text)


def test_32_characters_are_not_32_bytes(tmp_path: Path) -> None:
    problem = problems_of(tmp_path, STN_ENCRYPTION_KEY="a" * 32)["security.encryption_key"]
    assert "24 bytes" in problem
    assert "openssl rand -hex 32" in problem


@given(PASSWORDS, PASSWORDS.filter(lambda text: "&" not in text))
def test_no_password_of_a_url_is_shown(first: str, second: str) -> None:
    url = f"postgresql://station:{first}@db:5432/station?sslmode=require&password={second}"
    shown = str(SecretUrl(url)) + repr(SecretUrl(url))
    assert first not in shown
    assert second not in shown
    assert "station" in shown
    assert "db:5432" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h/0", "redis://h/0"),
        ("redis://:p@h/0", f"redis://:{MASK}@h/0"),
        ("redis://u:p@ss@h:1/0", f"redis://u:{MASK}@h:1/0"),
        ("postgresql://u@h,g/d", "postgresql://u@h,g/d"),
        ("unix:///run/v.sock?db=1&password=p", f"unix:///run/v.sock?db=1&password={MASK}"),
        ("not a url: secret", MASK),
        ("", MASK),
    ],
)
def test_a_url_keeps_what_is_not_secret(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_a_secret_shows_nothing_not_even_its_length() -> None:
    for text in ("", "a", "a" * 100):
        assert str(SecretText(text)) == MASK
        assert repr(SecretText(text)) == f"SecretText('{MASK}')"
        assert f"{SecretText(text)}" == MASK


def test_derived_keys_are_hkdf_of_the_key_and_the_label(tmp_path: Path) -> None:
    security = load_text(tmp_path).security
    # RFC 5869 by hand: extract under an all-zero salt, expand one block.
    extracted = hmac.new(bytes(32), security.key_bytes, hashlib.sha256).digest()
    expected = hmac.new(extracted, b"station/django\x01", hashlib.sha256).digest()
    assert security.derive("django") == expected
    assert security.derive("other") != expected


def test_a_former_key_derives_what_it_did_when_it_was_the_present_one(tmp_path: Path) -> None:
    former = load_text(tmp_path).security
    now = load_text(
        tmp_path,
        STN_ENCRYPTION_KEY="f" * 64,
        STN_PREVIOUS_ENCRYPTION_KEYS=former.encryption_key.get_secret_value(),
    ).security
    assert now.previous_key_bytes == (former.key_bytes,)
    assert now.derive("x", key=now.previous_key_bytes[0]) == former.derive("x")
    assert now.derive("x") != former.derive("x")
