"""Looks for known vulnerabilities in what is installed, and says whether it could look.

Run:  python tools/audit.py [OPTION OF pip-audit ...]     (`make audit`)

Exit code 0 if every package was looked up and none is vulnerable, 1 if one is, 3 if no
advisory database answered for all of them: that is "not reached", and not "clean".
"""

from __future__ import annotations

import json
import subprocess
import sys

LIMIT = 600.0  # seconds


def main(options: list[str]) -> int:
    """Run pip-audit; return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--format", "json"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off", *options],
            capture_output=True,
            encoding="utf-8",
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"audit: not reached (no answer in {LIMIT:g} s)")
        return 3
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        print(f"audit: not reached ({last[:200]})")
        return 3
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        names = ", ".join(vulnerability["id"] for vulnerability in package["vulns"])
        print(f"audit: {package['name']} {package['version']}: {names}")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    looked_up = len(packages) - len(skipped)
    if skipped and not vulnerable:
        print(f"audit: not reached for {len(skipped)} of {len(packages)} packages")
    if not vulnerable and not skipped:
        print(f"audit: {looked_up} packages, none with a known vulnerability")
    return 1 if vulnerable else 3 if skipped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
