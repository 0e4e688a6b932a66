"""The services that the health measurement looks at: one process, HTTP/1.1, 10 ms an answer; some never answer.

``python -m benchmarks.peers.services``: prints its port, serves until its stdin closes. A path that begins with
``/hang`` is never answered.
"""

from __future__ import annotations

import asyncio
import sys

LATENCY = 0.01
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class _Service(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            if not head.split(b" ", 2)[1].startswith(b"/hang"):
                asyncio.get_running_loop().call_later(LATENCY, self.answer)

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_ANSWER)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Service, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
