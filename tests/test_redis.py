"""One connection factory: bounded on hot paths, patient where waiting is right, over TLS and by Sentinel."""

from __future__ import annotations

import datetime as dt
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from regrow.errors import SettingsError
from regrow.redis import connect
from tests.servers import RedisCluster, RedisSentinel, RedisServer
from tests.waiting import eventually


def test_a_frozen_server_costs_a_caller_its_timeout_and_no_more(own_redis: RedisServer) -> None:
    client = connect(own_redis.url, socket_timeout=0.3, connect_timeout=0.3)
    assert client.ping()
    own_redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(redis.RedisError):
        client.get("x")
    assert time.monotonic() - began < 1.5
    own_redis.signal(signal.SIGCONT)


def test_a_patient_client_waits_for_a_server_that_restarts_and_a_hasty_one_does_not(
    own_redis: RedisServer,
) -> None:
    patient, hasty = connect(own_redis.url, waiting=True), connect(own_redis.url)
    patient.set("x", "1")
    own_redis.kill()
    with pytest.raises(redis.ConnectionError):
        hasty.get("x")
    with ThreadPoolExecutor() as waiting:
        answer = waiting.submit(patient.get, "x")
        # In this thread: the server dies with the thread that started it.
        own_redis.start()
        assert answer.result(20) == "1"


def test_a_patient_client_waits_for_a_cluster_that_restarts_and_a_hasty_one_does_not() -> None:
    cluster = RedisCluster(masters=1)
    try:
        url = cluster.start().url
        patient, hasty = connect(url, waiting=True), connect(url)
        patient.set("x", "1")
        assert hasty.get("x") == "1"
        cluster.nodes[0].kill()
        with pytest.raises(redis.ConnectionError):
            hasty.get("x")
        with ThreadPoolExecutor() as waiting:
            answer = waiting.submit(patient.get, "x")
            cluster.nodes[0].start()
            assert answer.result(20) == "1"
    finally:
        cluster.close()


@pytest.mark.parametrize("url", ["redis://h:port/0", "redis+cluster://h/3"])
def test_a_url_that_cannot_be_one_is_told_in_words(url: str) -> None:
    with pytest.raises(SettingsError, match=r"redis\.url"):
        connect(url)


def test_sentinel_leads_to_the_primary_and_after_a_failover_to_the_new_one(
    own_sentinel: RedisSentinel,
) -> None:
    client = connect(own_sentinel.url, socket_timeout=1, connect_timeout=1)
    client.set("kept", "yes")
    eventually(lambda: own_sentinel.replica.ask("GET", "kept") == "yes", what="it is replicated")
    own_sentinel.master.kill()
    eventually(lambda: client.set("after", "yes"), 30, what="writes reach the new primary")
    assert client.get("kept") == "yes"
    assert own_sentinel.replica.ask("GET", "after") == "yes"


@pytest.fixture
def tls(own_redis: RedisServer, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A TLS door before a real server: (port, certificate to trust)."""
    certificate, key = _self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=_relay, args=(accepted, context, own_redis.port), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listening.getsockname()[1], certificate
    listening.close()


def test_tls_is_spoken_and_an_unknown_certificate_refused(tls: tuple[int, Path]) -> None:
    port, certificate = tls
    assert connect(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}").ping()
    with pytest.raises(redis.ConnectionError, match="certificate"):
        connect(f"rediss://localhost:{port}/0").ping()


def _relay(accepted: socket.socket, context: ssl.SSLContext, port: int) -> None:
    try:
        outer = context.wrap_socket(accepted, server_side=True)
    except OSError:
        return
    inner = socket.create_connection(("127.0.0.1", port))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    threading.Thread(target=pump, args=(inner, outer), daemon=True).start()
    pump(outer, inner)
    inner.close()


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "server.crt", folder / "server.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files
