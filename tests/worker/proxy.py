"""A TCP proxy that can fall silent: connections stay open and nothing passes, as when a peer vanished."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Proxy:
    """Forwards to ``port``. After :meth:`silence` the connections of that moment are dead; new ones work."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._silent = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._silenced: set[int] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> int:
        """How many connections went silent."""
        self._silenced.update(id(pair) for pair in self._pairs)
        return len(self._silenced)

    def close(self) -> None:
        self._closed = True
        self._server.close()
        for pair in self._pairs:
            for end in pair:
                end.close()

    def _accept(self) -> None:
        while not self._closed:
            with contextlib.suppress(OSError):
                client, _ = self._server.accept()
                pair = (client, socket.create_connection(("127.0.0.1", self._target)))
                self._pairs.append(pair)
                threading.Thread(target=self._pump, args=(pair,), daemon=True).start()

    def _pump(self, pair: tuple[socket.socket, socket.socket]) -> None:
        other = {pair[0]: pair[1], pair[1]: pair[0]}
        with contextlib.suppress(OSError, ValueError):
            while not self._closed:
                for end in select.select(pair, [], [], 0.5)[0]:
                    data = end.recv(65536)
                    if id(pair) in self._silenced:
                        continue
                    if not data:
                        pair[0].close()
                        pair[1].close()
                        return
                    other[end].sendall(data)
