"""Known vulnerabilities of the packages in requirements/dev.txt, by pip-audit: python -m tests.audit_pins [--strict]

pip-audit asks for the page of the very release. Mirrors of the package index may lack those and have the page of the
project, which tells of its newest release; a package that is pinned to that one is looked up there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from pip._internal.models.index import PyPI

PINS = Path(__file__).parents[1] / "requirements" / "dev.txt"
#: identifiers of vulnerabilities that do not matter here, each with the reason
ACCEPTED: dict[str, str] = {}


def asked() -> dict[str, tuple[str, list[str] | None]]:
    """By package, its version and the vulnerabilities that pip-audit found, or None where it could not tell."""
    command = ["pip-audit", "--requirement", str(PINS), "--require-hashes", "--disable-pip"]
    done = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:  # it gives up at the first package that it cannot ask about
        print(f"NOT CHECKED: pip-audit failed: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}")
        pinned = re.findall(r"^([\w.-]+)==(\S+)", PINS.read_text(), re.MULTILINE)
        return {name: (version, None) for name, version in pinned}
    found: dict[str, tuple[str, list[str] | None]] = {}
    for package in json.loads(done.stdout)["dependencies"]:
        if "skip_reason" in package:  # "…: NAME (VERSION)"
            version = re.search(r"\(([^()]+)\)$", package["skip_reason"])
            found[package["name"]] = (version.group(1) if version else "", None)
        else:
            found[package["name"]] = (package["version"], [known["id"] for known in package["vulns"]])
    return found


def newest(name: str) -> tuple[str, list[str]] | None:
    """The newest version of a project and its vulnerabilities, or None where that cannot be asked either."""
    try:
        answer = requests.get(f"{PyPI.pypi_url}/{name}/json", timeout=60)
        answer.raise_for_status()
        page: dict[str, Any] = answer.json()
        version: str = page["info"]["version"]
        return version, [known["id"] for known in page["vulnerabilities"] if not known.get("withdrawn")]
    except (requests.RequestException, ValueError, KeyError):
        return None


def main() -> int:
    found = asked()
    rest = [name for name, (_, known) in found.items() if known is None]
    with ThreadPoolExecutor(4) as pool:
        for name, page in zip(rest, pool.map(newest, rest), strict=True):
            version = found[name][0]
            if page is not None and page[0] == version:
                found[name] = (version, page[1])
    unknown = [f"{name} {version}" for name, (version, known) in found.items() if known is None]
    vulnerable = [
        f"{name} {version}: {known}"
        for name, (version, all_known) in found.items()
        for known in all_known or []
        if known not in ACCEPTED
    ]
    print(f"{len(found) - len(unknown)} of {len(found)} Python packages checked")
    if unknown:
        print(f"NOT CHECKED, as there is no page of this release: {', '.join(unknown)}")
    print("\n".join(["vulnerable:", *vulnerable] if vulnerable else ["none is known to be vulnerable"]))
    return int(bool(vulnerable) or (bool(unknown) and "--strict" in sys.argv))


if __name__ == "__main__":
    sys.exit(main())
