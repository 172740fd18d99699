"""A headless Chromium, and what a visitor does with the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,1000",
)
#: a visitor's patience
SECONDS = 60


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile; skips the test where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(opened)
    finally:
        opened.quit()


class Browser:
    """The page as a visitor uses it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._log: list[Any] = []

    def open(self, url: str) -> None:
        self.driver.get(url)
        self.wait(lambda: self.find("#score"))

    def find(self, selector: str) -> list[Any]:
        """Elements that are seen."""
        return [
            found for found in self.driver.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()
        ]

    def wait(self, condition: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, SECONDS, ignored_exceptions=(Exception,)).until(
            lambda _: condition()
        )

    def upload(self, file: Path) -> None:
        self.driver.find_element(By.CSS_SELECTOR, "#image input[type=file]").send_keys(str(file))

    def preview(self) -> str:
        """The address of the uploaded image, once it is drawn."""
        return str(self.wait(lambda: self._drawn("#image img")))

    def type(self, *texts: str) -> None:
        box = self.find("#texts textarea")[0]
        box.clear()
        box.send_keys("\n".join(texts))

    def click(self, selector: str) -> None:
        self.find(selector)[0].click()

    def choose(self, group: str, name: str) -> None:
        """One of a group of radio buttons."""
        next(label for label in self.find(f"{group} label") if label.text.strip() == name).click()

    def pick(self, dropdown: str, name: str) -> None:
        """One of a list that opens."""
        self.find(f"{dropdown} input")[0].click()
        options = self.wait(lambda: self.find("ul[role=listbox] li"))
        next(option for option in options if name in option.text).click()

    def text(self, selector: str) -> str:
        return " ".join(found.text for found in self.find(selector))

    def rows(self) -> list[tuple[str, ...]]:
        """Score, probability and text of each line of the ranking."""
        lines = self.driver.find_elements(By.CSS_SELECTOR, "#ranking [role=row][data-index]")
        return [
            tuple(cell.text.strip() for cell in line.find_elements(By.CSS_SELECTOR, "[role=gridcell]"))
            for line in lines
        ]

    def maps(self) -> str:
        """The address of the word maps' picture, once it is drawn; empty before."""
        return str(self._drawn("#maps img") or "")

    def message(self) -> str:
        """What a toast says, or nothing."""
        return " ".join(found.text for found in self.find(".toast-body, .toast-wrap"))

    def requests(self) -> set[str]:
        """Hosts of all requests so far, with those that were refused."""
        self._log += [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [
            urlsplit(event["params"].get("request", event["params"])["url"])
            for event in self._log
            if event["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")
        ]
        return {url.hostname or "" for url in urls if url.scheme in ("http", "https", "ws", "wss")}

    def _drawn(self, selector: str) -> str | None:
        for image in self.find(selector):
            if self.driver.execute_script("return arguments[0].naturalWidth > 1", image):
                return str(image.get_attribute("src"))
        return None
