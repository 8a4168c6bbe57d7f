"""Finds the services that tests talk to, or starts private ones that may be broken."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from programs import (
    account_of,
    copies_of,
    entered,
    may_run,
    newest_root,
    of_this_python,
    program,
)

START_LIMIT = 90.0  # seconds; RabbitMQ takes 5 to 15 on an idle machine
WITHOUT_TLS = ("Failed finding TLS support", "SSL is not supported by this build")


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether something accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def wait_for(state: Callable[[], object], limit: float = 10.0, what: str = "") -> None:
    """Poll until the state holds; raise TimeoutError after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not state():
        if time.monotonic() > deadline:
            raise TimeoutError(what or "the state was not reached in time")
        time.sleep(0.02)


class NoTls(RuntimeError):
    """A server was built without TLS, as those of the wheels are."""


def numbered(folder: Path) -> list[Path]:
    """Return what /proc lists by a number there; nothing of a process that ended."""
    try:
        places = list(folder.iterdir())
    except OSError:
        return []
    return [place for place in places if place.name.isdecimal()]


def states_of(group: int) -> set[str]:
    """Return the states of all threads of a process group, such as T for stopped."""
    states = set()
    for process in numbered(Path("/proc")):
        for thread in numbered(process / "task"):
            with suppress(OSError):  # it has ended meanwhile
                # The name before these, in brackets, may have anything in it.
                _, _, after = (thread / "stat").read_text().rpartition(")")
                state, _, its_group, *_ = after.split()
                if int(its_group) == group:
                    states.add(state)
    return states


@dataclass
class Server:
    """A private server on its own port and folder: kill it, freeze it, restart it."""

    name: str
    url: str
    port: int
    argv: list[str]
    folder: Path
    ready: Callable[[], bool]
    env: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    control: list[str] = field(default_factory=list)
    asking: list[str] = field(default_factory=list)  # evaluates what it reads
    process: subprocess.Popen[bytes] | None = None
    _awaited: subprocess.Popen[bytes] | None = None  # the process that took an order

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                cwd=self.folder,
                env=os.environ | self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.user,
                start_new_session=True,
            )
        try:
            wait_for(self._settled, START_LIMIT, f"{self.name} did not start")
        except TimeoutError as error:
            error.add_note(self.log.read_text(errors="replace")[-2000:])
            raise

    def _settled(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            kind = NoTls if any(said in tail for said in WITHOUT_TLS) else RuntimeError
            raise kind(f"{self.name} ended with {self.process.returncode}: {tail}")
        return self.ready()

    def signal(self, number: int) -> None:
        """Send a signal to the server and all its children."""
        if self.process:
            os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        """Stop it from answering while its connections stay open (SIGSTOP).

        Returns when all its processes have stopped: a signal takes hold a little later.
        """
        self.signal(signal.SIGSTOP)
        assert self.process
        group = self.process.pid
        wait_for(lambda: states_of(group) <= set("TZ"), what=f"{self.name} still runs")

    def thaw(self) -> None:
        """Let a frozen server go on (SIGCONT)."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it as a crash would (SIGKILL); its folder stays for a restart."""
        if self.process is None:
            return
        group = self.process.pid
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait(START_LIMIT)
        self.process = None
        # A child that ends a moment later keeps the memory that it shared.
        wait_for(lambda: states_of(group) <= set("ZX"), what=f"{self.name} still runs")
        wait_for(lambda: not answers(self.port), what=f"{self.name} still listens")

    def restart(self) -> None:
        """Start it again after a kill, on the same port and folder."""
        self.kill()
        self.start()

    def ctl(self, *args: str) -> str:
        """Run the server's control program (rabbitmqctl) and return what it prints.

        Raises RuntimeError with its complaint. A node takes connections a moment before
        it takes orders: the first order after each start waits for that.
        """
        if self.process is not self._awaited:
            if self.asking:
                self._evaluated("ok = rabbit:await_startup().")
            else:
                self._control("await_startup")
            self._awaited = self.process
        if args[0] == "eval" and self.asking:
            return self._evaluated(args[1])
        return self._control(*args)

    def _evaluated(self, expression: str) -> str:
        """Return what `rabbitmqctl eval` prints, which takes a second to begin."""
        whole = expression.strip().removesuffix(".")
        done = subprocess.run(
            self.asking,
            input=f'io:format("~p~n", [begin {whole} end]).\n',
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_LIMIT,
        )
        printed, ok, _ = done.stdout.rpartition("{ok, ok}")
        if not ok:  # its exit code is 0 all the same
            raise RuntimeError(f"{expression}: {done.stdout}{done.stderr}".strip())
        return printed

    def _control(self, *args: str) -> str:
        done = subprocess.run(
            [*self.control, *args],
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_LIMIT,
        )
        if done.returncode:
            said = f"{done.stdout}{done.stderr}".strip()
            raise RuntimeError(f"{args[0]} ended with {done.returncode}: {said}")
        return done.stdout


def _postgres(folder: Path, port: int) -> Server | None:
    initdb, postgres = program("initdb"), program("postgres")
    if not initdb or not postgres:
        return None
    # PostgreSQL refuses to run as root: its own account takes over, or nobody's.
    account = account_of("postgres", "nobody") if os.geteuid() == 0 else None
    user = None
    if account:
        user, uid, gid = account
        os.chown(folder, uid, gid)
        folder.parent.chmod(0o755)
        if not newest_root() and not may_run(postgres, user):
            initdb, postgres = copies_of(folder.parent / "wheel", initdb, postgres)
    data = folder / "data"
    make = [initdb, "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8"]
    run = [postgres, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", ""]
    if newest_root():  # which changes the account by itself
        make, run = (entered(*argv, account=user or "root") for argv in (make, run))
        user = None
    subprocess.run(make, user=user, cwd=folder, capture_output=True, check=True)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def ready() -> bool:
        import psycopg

        try:
            psycopg.connect(url, connect_timeout=1).close()
        except psycopg.OperationalError:
            return False
        return True

    return Server("postgres", url, port, run, folder, ready, user=user)


def _pgbouncer(folder: Path, port: int, *options: str) -> Server | None:
    """Start a PgBouncer before the PostgreSQL at the URL that is the first option.

    The others are further lines of its pgbouncer.ini, such as "pool_mode = session". It
    lets everybody in who names a user and, by "auth_type = plain", the password
    "s3cret" of the user "pooled".
    """
    binary = program("pgbouncer")
    if not binary:
        return None
    account = account_of("postgres", "nobody") if os.geteuid() == 0 else None
    if account:  # it refuses to run as root, too
        os.chown(folder, account[1], account[2])
        folder.parent.chmod(0o755)
    behind, *lines = options
    target = urlsplit(behind)
    (folder / "users.txt").write_text('"pooled" "s3cret"\n"postgres" ""\n')
    ini = f"""
        [databases]
        * = host={target.hostname} port={target.port} user={target.username}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_file = {folder}/users.txt
        auth_type = trust
        pool_mode = transaction
    """
    settings = [line.strip() for line in ini.splitlines()]
    (folder / "pgbouncer.ini").write_text("\n".join((*settings, *lines, "")))
    user = account[0] if account else None
    argv = [binary, str(folder / "pgbouncer.ini")]
    if newest_root():
        argv, user = entered(*argv, account=user or "root"), None
    login = "pooled:s3cret" if "auth_type = plain" in lines else target.username
    url = f"postgresql://{login}@127.0.0.1:{port}{target.path}"
    return Server(
        "pgbouncer", url, port, argv, folder, lambda: answers(port), user=user
    )


def _redis(folder: Path, port: int, *options: str) -> Server | None:
    """Start a Redis, or the Valkey that REDIS_PROGRAM=valkey-server asks for."""
    names = ["redis-server", "valkey-server"]
    if os.environ.get("WHEELS_FIRST"):
        names.reverse()
    if asked := os.environ.get("REDIS_PROGRAM"):
        names = [asked]
    binary = next((found for name in names if (found := program(name))), None)
    if not binary:
        return None
    argv = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
    argv += ["--dir", str(folder)]  # in another Debian it begins in the root folder
    url = f"redis://127.0.0.1:{port}/0"
    return Server("redis", url, port, entered(*argv), folder, lambda: answers(port))


def _rabbitmq(folder: Path, port: int, *options: str) -> Server | None:
    """Start a node of its own name, ports, cookie and folder, with no plugins.

    Options are further lines of its rabbitmq.conf.
    """
    binary, ctl = program("rabbitmq-server"), program("rabbitmqctl")
    if not binary or not ctl:
        return None
    lines = [f"listeners.tcp.1 = 127.0.0.1:{port}", "loopback_users.guest = true"]
    if newest_root():  # Debian permits what RabbitMQ 4.3 itself refuses
        lines.append("deprecated_features.permit.transient_nonexcl_queues = false")
    (folder / "rabbitmq.conf").write_text("\n".join((*lines, *options, "")))
    (folder / "enabled_plugins").write_text("[].\n")
    cookie = folder / ".erlang.cookie"
    cookie.write_text("PRIVATE")
    cookie.chmod(0o400)
    node = f"module8-{port}@localhost"
    env = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
    }
    url = f"amqp://guest:guest@127.0.0.1:{port}/%2F"
    control = entered(ctl, "-n", node)
    asking = []
    if erl_call := program("erl_call"):  # a small program of Erlang's, written in C
        how = ["-sname", node, "-c", "PRIVATE", "-fetch_stdout", "-e"]
        asking = entered(erl_call, *how)

    def ready() -> bool:
        import pika

        if not answers(port):
            return False
        try:
            pika.BlockingConnection(pika.URLParameters(url)).close()
        except pika.exceptions.AMQPError:
            return False
        return True

    argv = entered(binary)
    return Server(
        "rabbitmq",
        url,
        port,
        argv,
        folder,
        ready,
        env,
        control=control,
        asking=asking,
    )


def _mongo(folder: Path, port: int, *options: str) -> Server | None:
    binary = of_this_python("secantusd-py") or shutil.which("secantusd-py")
    if not binary:
        return None
    argv = [binary, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--storage-path", str(folder / "data"), "--enable-test-commands"]
    argv += options
    url = f"mongodb://127.0.0.1:{port}/"
    return Server("mongo", url, port, argv, folder, lambda: answers(port))


MAKERS: dict[str, Callable[..., Server | None]] = {
    "postgres": _postgres,
    "pgbouncer": _pgbouncer,
    "redis": _redis,
    "rabbitmq": _rabbitmq,
    "mongo": _mongo,
}


@contextmanager
def private(name: str, *options: str) -> Iterator[Server | None]:
    """Start a private server and end it; None where its program is not installed."""
    parent = Path(tempfile.mkdtemp(prefix=f"module8-{name}-"))
    folder = parent / "server"
    folder.mkdir()
    server = MAKERS[name](folder, free_port(), *options)
    try:
        if server:
            server.start()
        yield server
    finally:
        if server:
            server.kill()
        shutil.rmtree(parent, ignore_errors=True)
