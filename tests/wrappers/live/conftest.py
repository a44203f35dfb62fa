"""A real browser for the page; without one, the tests that need it are skipped and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.wrappers.live.helpers import PATIENCE


def find_browser() -> tuple[str, str] | None:
    driver = shutil.which("chromedriver")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    return None if driver is None or browser is None else (browser, driver)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    found = find_browser()
    if found is None:
        pytest.skip(
            "the live page was NOT tested in a browser: there is no Chromium with chromedriver. "
            "Run `apt-get install chromium chromium-driver`."
        )
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = found[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(found[1]))
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """The browser, at a laptop's size; the page must write no error to its console."""
    chromium.get_log("browser")
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    yield chromium
    errors = [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    chromium.get("about:blank")
    # A socket that the test's own end has closed is no error of the page.
    assert [entry for entry in errors if "WebSocket connection" not in entry["message"]] == []
