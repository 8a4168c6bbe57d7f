"""Lesson 05's summary on Spark: the query of --summary-sql, run locally and compared.

Run:  python benchmarks/spark_05_summary.py     (needs pyspark and Java; no requirement)

Spark reads the sample as a table `orders`, runs the query, and writes the rows that
differ. The lesson fits them by --summary; the parameters must be those of the log.
"""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "05_realworld_data_science.py"
SAMPLE = ROOT / "data" / "cdnow_sample.csv"
CUT = "1997-09-30"


def lesson_says(*options: str) -> str:
    """Return what a run of the lesson prints."""
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def by_spark(sql: str, folder: Path) -> Path:
    """Return a file of the rows that Spark answers with."""
    spark_sql = importlib.import_module("pyspark.sql")
    builder = spark_sql.SparkSession.builder.master("local[1]").appName("summary")
    builder = builder.config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.shuffle.partitions", "2")
    session = builder.getOrCreate()
    try:
        types = "customer STRING, date DATE, quantity INT, amount DECIMAL(12, 2)"
        table = session.read.csv(str(SAMPLE), schema=types, header=True)
        table.createOrReplaceTempView("orders")
        rows = [tuple(row) for row in session.sql(sql).collect()]
    finally:
        session.stop()
    path = folder / "summary.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("x", "t_last", "age", "spend", "n"), *rows])
    return path


def main() -> int:
    """Compare, and print both; 1 if a digit differs."""
    sql = lesson_says("--summary-sql", "spark", "--as-of", CUT)
    with tempfile.TemporaryDirectory() as folder:
        path = by_spark(sql, Path(folder))
        figures: dict[str, Any] = json.loads(
            lesson_says("--summary", str(path), "--json")
        )
    of_log = json.loads(lesson_says("--json", "--as-of", CUT))
    same = True
    for model in ("bgnbd", "gamma_gamma"):
        equal = figures[model] == of_log[model]
        same = same and equal
        print(f"{model}: {figures[model]}, {'the same' if equal else of_log[model]}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
