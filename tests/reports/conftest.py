"""A browser that opens pages from disk; tests that need it are skipped by name where there is none."""

import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page in a window, with what it said and asked for."""

    def __init__(self, browser, path, width=1400, scheme="light"):
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.said, self.requests = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function(
            "document.querySelectorAll('.plotly-graph-div').length === 0 || window.Plotly"
        )
        self.page.wait_for_function(
            "[...document.querySelectorAll('.plotly-graph-div')].every(one => one.querySelector('.main-svg'))"
        )

    def plots(self):
        return self.page.locator(".plotly-graph-div")

    def value(self, script, *arguments):
        return self.page.evaluate(script, *arguments)


@pytest.fixture
def opened(browser):
    pages = []

    def open_page(path, **settings):
        pages.append(Opened(browser, path, **settings))
        return pages[-1]

    yield open_page
    for one in pages:
        one.page.close()
