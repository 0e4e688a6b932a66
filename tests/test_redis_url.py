"""Addresses of a Redis: every form is read as it is written, and what cannot be one is told in words."""

from __future__ import annotations

import pytest

from regrow.errors import SettingsError
from regrow.redis import connect
from regrow.redis_url import kind_of, parse


@pytest.mark.parametrize(
    "url", ["redis://h:1/0", "rediss://u:p@h/3?ssl_ca_certs=a.pem", "unix:///s.sock?db=1"]
)
def test_one_server_is_left_to_redis_py(url):
    address = parse(url)
    assert (address.kind, address.url, address.nodes) == ("server", url, ())


@pytest.mark.parametrize("scheme", ["sentinel", "redis+sentinel"])
def test_a_master_behind_sentinels(scheme):
    address = parse(f"{scheme}://ann:p%40w@s1,s2:26380,[::1]:5/orders/2?sentinel_password=x")
    assert address.kind == "sentinel"
    assert address.nodes == (("s1", 26379), ("s2", 26380), ("::1", 5))
    assert (address.service, address.db) == ("orders", 2)
    assert (address.username, address.password) == ("ann", "p@w")
    assert address.sentinel_login == (None, "x")
    assert not address.encrypted


def test_a_cluster_is_told_by_some_of_its_nodes():
    address = parse("redis+cluster://:pw@n1:7000,n2/0")
    assert address.kind == "cluster"
    assert address.nodes == (("n1", 7000), ("n2", 6379))
    assert (address.username, address.password) == (None, "pw")


def test_tls_is_asked_for_by_the_scheme():
    cluster = parse("rediss+cluster://n1?ssl_ca_certs=/ca.pem&ssl_check_hostname=false")
    assert cluster.encrypted
    assert dict(cluster.tls) == {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}
    sentinel = parse("rediss+sentinel://s1/ours")
    assert (sentinel.encrypted, sentinel.sentinels_encrypted) == (True, True)
    masters_only = parse("sentinel://s1/ours?ssl=true")
    assert (masters_only.encrypted, masters_only.sentinels_encrypted) == (True, False)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("amqp://h", "must begin with"),
        ("redis", "must begin with"),
        ("sentinel://", "names no host"),
        ("sentinel://h:26379", "names no service"),
        ("sentinel://h:port/ours", "port of h"),
        ("redis+sentinel://h/ours/db", "no number"),
        ("redis+cluster://", "names no host"),
        ("redis+cluster://h:0", "port of h"),
        ("redis+cluster://h:6379/1", "database 0 alone"),
        ("redis+cluster://h:6379/ours", "database 0 alone"),
        ("redis+cluster://h?timeout=3", "unknown option timeout"),
        ("rediss+cluster://:secret@h,:7000", "no name"),
        ("redis+cluster://:secret/pw@h:6379", "no name"),
        ("redis+sentinel://h:pw/x/secret@h/ours", "port of h"),
    ],
)
def test_what_cannot_be_one_is_told_in_words_without_its_password(url, why):
    with pytest.raises(SettingsError, match=r"^redis\.url: ") as refused:
        parse(url)
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


def test_kinds_are_told_by_the_scheme_alone():
    assert kind_of("rediss+cluster://whatever") == "cluster"
    assert kind_of("amqp://h") is None


def test_making_a_client_of_a_cluster_sends_nothing_and_using_it_says_who_is_away():
    client = connect("redis+cluster://127.0.0.1:1,127.0.0.1:2", connect_timeout=0.2)
    client.close()
    import redis

    with pytest.raises(redis.RedisError, match=r"127\.0\.0\.1"):
        client.ping()
