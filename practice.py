"""Exercises that judge: write a mechanism again, and find the bug.

Run:     python practice.py              the list of exercises, and the next one
         python practice.py --help       all commands
Needs:   no service; what requirements.txt lists.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "sqlalchemy>=2.1,<2.2",
#   "psycopg[binary]>=3.2,<4",
#   "alembic>=1.19,<2",
#   "pymongo>=4.18.1,<5",
#   "mongomock>=4.3,<5",
#   "redis[hiredis]>=8.0,<9",
#   "fakeredis[lua]>=2.34.1,<3",
#   "pika>=1.4,<2",
#   "numpy>=1.26,<3",
#   "python-dotenv>=1.2.2,<2",
#   "rich>=13.7,<16",
# ]
# ///

from __future__ import annotations

import course.start  # noqa: F401  (first: it says in one line what is missing)

# isort: split

import sys
from pathlib import Path

from course.ending import leave
from course.practice.commands import practise

if __name__ == "__main__":
    if sys.stdout:  # None where it was closed from the start
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    leave(practise(Path(__file__).absolute().parent))
