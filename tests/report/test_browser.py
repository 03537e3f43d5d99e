"""The page in a real browser, without a network."""

import io
import os
import shutil

import pytest
from PIL import Image

from espnet3.report import write_report
from espnet3.report.charts import COLOURS, OUTLIER
from espnet3.report.timeline import WORK

NAMES = ("chromium", "chromium-browser", "google-chrome")
MUST_RUN = "ESPNET3_BROWSER_TESTS"  # .ci/run sets it to 1 where it has installed a browser


@pytest.fixture
def browser():
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        assert os.environ.get(MUST_RUN) != "1", f"none of {', '.join(NAMES)} is there"
        pytest.skip("no Chromium on PATH (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def shows(picture, colour):
    """Whether a picture has a few pixels of a colour."""
    wanted = tuple(bytes.fromhex(colour[1:]))
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    return sum(n for n, found in image.getcolors(1 << 24) if found == wanted) > 10


def test_the_page_opens_offline_and_its_charts_are_drawn(runs, browser):
    runs.ids[7] = "</script><script>document.title = 'taken over'</script>"
    runs.misbehave(7, "slow")
    runs.misbehave(9, "<img src=x onerror=alert(1)>")
    path = write_report(runs.do())
    page = browser.new_context(offline=True).new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append((message.type, message.text)))
    page.on("pageerror", lambda error: said.append(("exception", str(error))))
    page.on("dialog", lambda dialog: said.append(("dialog", dialog.message)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    for width in (1200, 380):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function("window.Bokeh?.documents[0]?.is_idle")
        *bars, units = page.locator(".chart").all()
        assert len(bars) == 4, "how many workers, each of them, audio and items over time"
        for chart in bars:
            assert shows(chart.screenshot(), COLOURS[WORK])
        assert shows(units.screenshot(), OUTLIER)
        # Nothing sticks out to the side.
        page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.title() == "test"
    assert asked == [path.as_uri()]
    assert [each for each in said if each[0] not in ("log", "info")] == []
