"""The heartbeat's page in a real browser."""

from __future__ import annotations

import re

import pytest
from selenium import webdriver
from servers import wsgiref_server
from system import program
from wsgi import hello

from dockerflow_wsgi import DockerflowMiddleware, checks

OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LONG = "x" * 300


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Run a headless Chromium."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium")
    profile = tmp_path_factory.mktemp("profile")
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = program("chromedriver", "chromium-driver")
    chromium = webdriver.Chrome(options, webdriver.ChromeService(executable_path=driver))
    yield chromium
    chromium.quit()


@pytest.fixture(scope="module")
def url():
    """Serve a heartbeat with messages of several levels, long texts and a hint."""
    app = DockerflowMiddleware(hello)
    app.check(lambda: [], name="fine")
    app.check(lambda: checks.Warning("slow", hint="<b>buy</b> disks", id="acme.W001"), name="disk")
    app.check(lambda: checks.Error(f"{LONG}\nsecond line", id="acme.E001"), name="no_break" * 20)
    with wsgiref_server(app) as port:
        yield f"http://127.0.0.1:{port}/__heartbeat__"


def show(browser, url, width, scheme):
    """Load the page on a screen of a width, light or dark."""
    emulated = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(url)


def luminance(colour):
    """Return the relative luminance of ``rgb(...)`` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_everything_is_visible(browser, url, width, scheme):
    """The page shows each check with its messages, and fits the width of the screen."""
    show(browser, url, width, scheme)
    text = browser.find_element("tag name", "body").text
    for shown in (
        "Heartbeat error",
        "fine",
        "disk",
        "slow",
        "Hint: <b>buy</b> disks",
        "500 Internal Server Error",
        " UTC",
        "Host",
        "second line",
    ):
        assert shown in text
    assert len(re.findall(r"\d ms", text)) == 3
    assert text.index("no_break") < text.index("disk") < text.index("fine")
    wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = browser.execute_script(wide)
    assert needed <= there


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(browser, url, scheme):
    """Text and badges have the contrast of WCAG's level AA, light and dark."""
    show(browser, url, 1280, scheme)
    ground = "rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 18, 18)"
    look = "const s = getComputedStyle(arguments[0]); return [s.color, s.backgroundColor]"
    colour, _ = browser.execute_script(look, browser.find_element("tag name", "body"))
    assert contrast(colour, ground) >= 4.5
    for badge in browser.find_elements("tag name", "span"):
        assert contrast(*browser.execute_script(look, badge)) >= 4.5


def test_the_page_loads_nothing_else(browser, url):
    """The page loads nothing else, and the browser logs no error."""
    browser.get_log("browser")
    show(browser, url, 1280, "light")
    asked = browser.execute_script("return performance.getEntriesByType('resource').length")
    complaints = [
        entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]
    ]
    # The browser logs the status of a failing heartbeat.
    assert [entry for entry in complaints if "status of 500" not in entry["message"]] == []
    assert asked == 0
