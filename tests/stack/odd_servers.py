"""Servers that no client wants to meet: silent, noisy, or with a certificate amiss."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from course.network import LoopbackServer

LONGEST = 30.0  # seconds that a client may be silent
NOISE = bytes(range(200, 256)) * 4 + b"\r\n"
CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Silent(LoopbackServer):
    """Accepts, reads, and never says a word."""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        while await reader.read(4096):
            pass


class Noisy(LoopbackServer):
    """Answers whatever it is told with bytes that mean nothing."""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(NOISE)
            await writer.drain()


class OverTls:
    """Shakes hands over TLS, and listens; `asked_first` is how PostgreSQL begins.

    Not on asyncio, which hangs up on a client before it has said why.
    """

    def __init__(self, context: ssl.SSLContext, asked_first: bool) -> None:
        self.context = context
        self.asked_first = asked_first

    def __enter__(self) -> Self:
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]
        threading.Thread(target=self._welcome_all, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.door.shutdown(socket.SHUT_RDWR)  # which ends accept()
        self.door.close()

    def _welcome_all(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self.door.accept()
                threading.Thread(target=self._serve, args=[line], daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        line.settimeout(LONGEST)
        with suppress(OSError), line:
            if self.asked_first and line.recv(8):
                line.sendall(b"S")
            with self.context.wrap_socket(line, server_side=True) as talk:
                while talk.recv(4096):
                    pass


@dataclass(frozen=True)
class Certificates:
    """An authority, and servers' certificates for localhost that it has signed."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    def context(self, name: str, demands_one: bool = False) -> ssl.SSLContext:
        """Return what a server with this certificate works with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        chain = self.folder / f"{name}.pem"
        context.load_cert_chain(chain, self.folder / f"{name}.key")
        if demands_one:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority)
        return context


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, and certificates that are good, expired, of another host."""

    def openssl(*arguments: str) -> None:
        command = ["openssl", *arguments]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        openssl("req", "-x509", *CURVE, "-days", "2", "-subj", f"/CN={name}", *files)
    for name, host, days, signer in (
        ("good", "localhost", "2", "ca"),
        ("expired", "localhost", "-1", "ca"),
        ("elsewhere", "elsewhere.example", "2", "ca"),
        ("untrusted", "localhost", "2", "stranger"),
    ):
        request = ["-keyout", f"{name}.key", "-out", f"{name}.csr"]
        openssl("req", *CURVE, "-subj", f"/CN={host}", *request)
        (folder / "names").write_text(f"subjectAltName=DNS:{host}")
        signed_by = ["-CA", f"{signer}.pem", "-CAkey", f"{signer}.key"]
        openssl(
            *["x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem"],
            *["-days", days, "-extfile", "names", "-CAcreateserial", *signed_by],
        )
    return Certificates(folder)
