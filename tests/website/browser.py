"""Opens all pages of a site in a browser, from a server of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HARNESS = Path(__file__).parent / "harness.html"
WIDTHS = (390, 1280)  # a phone, a desk
DEADLINE = 60_000  # milliseconds for a page on a busy machine
LIMIT = 400.0  # seconds for all pages; a minute on an idle machine


class SiteServer(ThreadingHTTPServer):
    """Serves a site and the page that opens the others; keeps what that reports."""

    def __init__(self, site: Path) -> None:
        handler = partial(Handler, directory=str(site))
        super().__init__(("127.0.0.1", 0), handler)
        self.pages = sorted(
            path.relative_to(site).as_posix() for path in site.rglob("*.html")
        )
        self.found: list[dict[str, Any]] = []
        self.missing: list[str] = []
        self.done = threading.Event()


class Handler(SimpleHTTPRequestHandler):
    """Files of the site, and three names of the harness."""

    server: SiteServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def log_error(self, format: str, *args: object) -> None:
        """Keep what the site asked for and does not have."""
        self.server.missing.append(self.path)

    def answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path.startswith("/harness.html"):
            self.answer("text/html", HARNESS.read_bytes())
        elif self.path == "/pages":
            self.answer("application/json", json.dumps(self.server.pages).encode())
        elif self.path == "/favicon.ico":  # the browser's wish, not the site's
            self.answer("image/x-icon", b"")
        else:
            super().do_GET()

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.found = json.loads(self.rfile.read(size))
        self.answer("text/plain", b"")
        self.server.done.set()


@dataclass(frozen=True)
class Visit:
    """What a browser found on each page at each width, and what it complained of."""

    pages: list[dict[str, Any]]
    complaints: list[str]
    missing: list[str]


def visit(
    site: Path, browser: str, home: Path, dark: bool, deadline: int = DEADLINE
) -> Visit:
    """Open all pages at both widths in a scheme; other hosts cannot be reached."""
    server = SiteServer(site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log = home / "chromium.log"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={home / 'profile'}", "--hide-scrollbars"]
    command += ["--enable-logging=stderr", "--window-size=1400,1000"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    # A request elsewhere fails; the page that opens the others sees it.
    command += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    command += ["--disable-background-networking"]
    asked = f"widths={','.join(map(str, WIDTHS))}&deadline={deadline}"
    address = f"http://127.0.0.1:{server.server_port}/harness.html?{asked}"
    try:
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*command, address], stderr=stderr, stdout=subprocess.DEVNULL
            )
            try:
                assert server.done.wait(LIMIT), log.read_text("utf-8", "replace")
            finally:
                process.kill()
                process.wait()
    finally:
        server.shutdown()
        server.server_close()
        socket = home / "profile" / "SingletonSocket"  # a link to one in a folder
        if socket.is_symlink():  # of its own, which a killed browser leaves behind
            shutil.rmtree(socket.readlink().parent, ignore_errors=True)
        shutil.rmtree(home / "profile", ignore_errors=True)
    written = log.read_text("utf-8", "replace")
    complaints = re.findall(r".*:CONSOLE.*", written)
    return Visit(server.found, complaints, server.missing)
