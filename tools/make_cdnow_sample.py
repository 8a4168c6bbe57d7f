"""Makes data/cdnow_sample.csv from the copy in the wheel of lifetimes 0.11.3.

Run:  python tools/make_cdnow_sample.py [--check]

With --check nothing is written: the exit code is 1 if the file would differ.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
import sys
from datetime import date
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "data" / "cdnow_sample.csv"
# Of the text file inside the wheel; another text is another sample.
SOURCE_SHA256 = "6fae10155c0b0ba363c2c386e30f77990d22328220efd862a5edd1443420d94a"
HEADER = ("customer", "date", "quantity", "amount")


def source() -> str:
    """Return the sample as lifetimes ships it; importing lifetimes is not needed."""
    found = importlib.util.find_spec("lifetimes")
    if found is None or not found.submodule_search_locations:
        sys.exit("lifetimes is not installed: pip install lifetimes==0.11.3")
    folder = Path(found.submodule_search_locations[0])
    raw = (folder / "datasets" / "CDNOW_sample.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != SOURCE_SHA256:
        sys.exit("this copy of CDNOW_sample.txt differs from that of lifetimes 0.11.3")
    return raw.decode("ascii")


def converted(text: str) -> str:
    """Return the CSV: id in the master file, id in the sample, day, CDs, dollars."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for line in text.splitlines():
        _, customer, day, quantity, amount = line.split()
        writer.writerow((customer, date.fromisoformat(day), quantity, amount))
    return out.getvalue()


def main() -> int:
    """Write or check the file; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    text = converted(source())
    if check:
        return int(TARGET.read_bytes() != text.encode())
    TARGET.write_bytes(text.encode())
    digest = hashlib.sha256(text.encode()).hexdigest()
    print(f"{TARGET.name}: {len(text.splitlines()) - 1} rows, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
