"""Receivers of notices on loopback: an HTTP server and a mail server, as real as they must be."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HttpReceiver:
    """Answers POSTs with ``status``, and keeps what it was sent: path, headers, body."""

    def __init__(self) -> None:
        self.status = 202
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.taken: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                if receiver.status < 300:
                    receiver.taken.append(self.headers.get("Idempotency-Key", ""))
                self.send_response(receiver.status)
                if 300 <= receiver.status < 400:
                    self.send_header("Location", f"{receiver.url}/inner")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class MailReceiver:
    """Speaks as much SMTP as a client needs; ``refuse`` is what it answers to an address instead of 250.

    With ``tls`` it is sealed from the beginning; with ``starttls`` it offers that. ``heard``: every line that
    came before the seal, ``signed_in``: what came with AUTH.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.refuse: bytes | None = None
        self.heard: list[bytes] = []
        self.signed_in: list[str] = []
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def sealed(self, context: ssl.SSLContext) -> None:
                self.request = context.wrap_socket(self.request, server_side=True)
                self.setup()

            def handle(self) -> None:
                try:
                    if tls is not None:
                        self.sealed(tls)
                    self.converse()
                except (ssl.SSLError, ConnectionError):  # who does not trust us goes away
                    pass

            def converse(self) -> None:
                self.wfile.write(b"220 here\r\n")
                to: list[str] = []
                while line := self.rfile.readline():
                    word = line[:4].upper()
                    if not isinstance(self.request, ssl.SSLSocket):
                        receiver.heard.append(line)
                    if word == b"STAR" and starttls is not None:
                        self.wfile.write(b"220 go on\r\n")
                        self.sealed(starttls)
                        continue
                    if word == b"EHLO":
                        self.wfile.write(b"250-here\r\n250-AUTH PLAIN\r\n")
                        if starttls is not None and not isinstance(self.request, ssl.SSLSocket):
                            self.wfile.write(b"250-STARTTLS\r\n")
                    if word == b"AUTH":
                        receiver.signed_in.append(base64.b64decode(line.split()[2]).decode())
                        self.wfile.write(b"235 welcome\r\n")
                        continue
                    if word == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        body = b""
                        while (part := self.rfile.readline()) != b".\r\n":
                            body += part.removeprefix(b".") if part.startswith(b"..") else part
                        mail = message_from_bytes(body, policy=policy.default)
                        receiver.mails.append((to, mail))
                    elif word == b"RCPT" and receiver.refuse:
                        self.wfile.write(receiver.refuse + b"\r\n")
                        continue
                    elif word == b"RCPT":
                        to.append(line.decode().partition("<")[2].partition(">")[0])
                    self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                    if word == b"QUIT":
                        return

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
