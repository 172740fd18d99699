"""The README's picture of the demo page, as a visitor sees it: `python -m tools.demo_screenshot docs/demo.png`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.python.demo.browser import chromium
from tests.python.demo.server import served

SCENE = Path(__file__).parents[1] / "examples" / "scene.png"
TEXTS = (
    "a red circle left of a blue square",
    "a blue circle left of a red square",
    "a green triangle above a red circle",
)
SIZE = (1280, 1230)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), "--device", "cpu") as server,
        chromium(Path(folder) / "profile") as browser,
    ):
        view = {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
        browser.open(server.url)
        browser.upload(SCENE)
        browser.preview()
        browser.type(*TEXTS)
        browser.click("#score")
        browser.wait(browser.maps)
        browser.driver.save_screenshot(sys.argv[1])


if __name__ == "__main__":
    main()
