"""Keys, sessions and the brake on guessing: rules, with time as an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.web.keys import SESSION_SECONDS, Guesses, Key, is_loopback
from regrow.web.shield import host_of
from regrow.web.sign_in import own_path

KEY = Key.of("correct horse battery staple")
NOW = 1_800_000_000.0


def test_the_key_matches_itself_and_nothing_else() -> None:
    assert KEY.matches("correct horse battery staple")
    assert not KEY.matches("correct horse battery stapl")
    assert not KEY.matches("")


def test_the_key_cannot_be_read_from_what_is_kept() -> None:
    assert "horse" not in repr(KEY) + str(vars(KEY))


def test_a_session_holds_for_its_time_and_not_a_second_longer() -> None:
    session = KEY.session(NOW, "nonce")
    assert KEY.admits(session, NOW)
    assert KEY.admits(session, NOW + SESSION_SECONDS - 1)
    assert not KEY.admits(session, NOW + SESSION_SECONDS)


def test_a_new_key_ends_every_session() -> None:
    assert not Key.of("another").admits(KEY.session(NOW, "nonce"), NOW)


def test_a_session_cannot_be_stretched() -> None:
    expiry, nonce, signature = KEY.session(NOW, "nonce").split(".")
    assert not KEY.admits(f"{int(expiry) + 3600}.{nonce}.{signature}", NOW)


@given(st.text())
def test_nothing_made_up_is_a_session(made_up: str) -> None:
    assert not KEY.admits(made_up, NOW)


def test_after_ten_wrong_keys_an_address_waits_until_the_first_is_a_minute_old() -> None:
    guesses = Guesses()
    for second in range(10):
        assert guesses.wait("10.0.0.1", NOW + second) == 0
        guesses.wrong("10.0.0.1", NOW + second)
    assert guesses.wait("10.0.0.1", NOW + 10) == 50
    assert guesses.wait("10.0.0.2", NOW + 10) == 0
    assert guesses.wait("10.0.0.1", NOW + 60) == 0


def test_one_ipv6_network_is_one_guesser() -> None:
    guesses = Guesses(allowed=2)
    guesses.wrong("2001:db8::1", NOW)
    guesses.wrong("2001:db8::2", NOW)
    assert guesses.wait("2001:db8::3", NOW) > 0
    assert guesses.wait("2001:db8:0:1::3", NOW) == 0


def test_guessers_do_not_fill_the_memory() -> None:
    guesses = Guesses(remembered=100)
    for number in range(1000):
        guesses.wrong(f"10.0.{number // 256}.{number % 256}", NOW)
    assert len(guesses._wrong) == 100


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"]
)
def test_loopback_is_recognised(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "10.0.0.1", "", "localhost.evil.example", "::", "1.0.0.127"])
def test_what_others_can_reach_is_not_loopback(address: str) -> None:
    assert not is_loopback(address)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("a.example:80", "a.example"),
        ("A.example", "a.example"),
        ("[::1]:8000", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ],
)
def test_the_host_of_a_header_is_told_without_its_port(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize("then", ["/", "/reports", "/?refresh=15", "/reports/0198-x.json"])
def test_after_signing_in_one_comes_back_to_where_one_was(then: str) -> None:
    assert own_path(then) == then


@pytest.mark.parametrize(
    "then",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "evil",
        "",
        "/a\r\nb: c",
    ],
)
def test_no_link_leads_elsewhere_after_signing_in(then: str) -> None:
    assert own_path(then) == "/"
