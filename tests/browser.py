"""A headless Chromium for tests: the machine's own, driven by the driver that comes with it, judged by axe-core."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

from tests import machine_tools, npm_pins
from tests.real_parts import TOOLS

AXE = Path(__file__).resolve().parent / "axe"
WAIT_S = 20
DESKTOP, PHONE = (1280, 900), (390, 844)
_JUDGE = """
const done = arguments[arguments.length - 1];
axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], resultTypes: ["violations"] })
  .then((found) => done(found.violations), (error) => done([{ id: "axe", impact: "critical", help: String(error), nodes: [] }]));
"""

# What an animation or a change of size is about to draw anew is not drawn yet.
_DRAWN = """
const places = [...document.querySelectorAll("canvas.chart")];
return places.length >= arguments[0] && places.every((place) => {
  const chart = window.Chart && Chart.getChart(place);
  if (!chart || !chart.attached) return false;
  if (place.clientWidth !== chart.width) return false;
  return place.getContext("2d").getImageData(0, 0, place.width, place.height).data.some((value) => value > 0);
});
"""


class Browser:
    """One window. `width` and `theme` change it in place; `judge` says what axe finds serious."""

    def __init__(self, driver: Chrome, base: str) -> None:
        self.driver = driver
        self.base = base
        self._axe = (npm_pins.installed(AXE, TOOLS) / "node_modules/axe-core/axe.min.js").read_text("utf-8")

    def size(self, size: tuple[int, int]) -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def theme(self, name: str) -> None:
        """`light` or `dark`, as the system would ask for it."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def zone(self, name: str) -> None:
        """Where whoever looks is, by the name of a time zone."""
        self.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": name})

    def wait_for_charts(self, least: int = 0) -> None:
        """Until so many charts are there at least, and each says that it is drawn and has drawn something."""
        self.wait(lambda driver: driver.execute_script(_DRAWN, least))

    def open(self, path: str) -> None:
        self.driver.get(self.base + path)

    def find(self, css: str) -> Any:
        """The element, waited for."""
        return self.wait(lambda driver: driver.find_elements("css selector", css))[0]

    def wait(self, condition: Any) -> Any:
        """Until it holds; what is replaced meanwhile, as a live page does, is looked for anew."""

        def holds(driver: Chrome) -> Any:
            try:
                return condition(driver)
            except WebDriverException as gone:
                if "does not belong to the document" not in str(gone):
                    raise
                return False  # Chromium's word for the same, in the middle of a change of pages

        replaced = [StaleElementReferenceException]
        return WebDriverWait(self.driver, WAIT_S, 0.1, ignored_exceptions=replaced).until(holds)

    def wait_for_text(self, css: str, text: str) -> None:
        self.wait(lambda driver: any(text in each.text for each in driver.find_elements("css selector", css)))

    def click(self, css: str) -> None:
        self.wait(lambda _: [self.find(css).click()])

    def text(self, css: str = "body") -> str:
        return str(self.wait(lambda _: [self.find(css).text])[0])

    def overflow_px(self) -> int:
        """By how much the page is wider than the window."""
        script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.driver.execute_script(script))

    def complaints(self) -> list[str]:
        """What the browser's console says against the page since it was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def judge(self) -> list[str]:
        """Serious and critical findings of axe-core, one sentence each."""
        self.driver.execute_script(self._axe)
        found = self.driver.execute_async_script(_JUDGE)
        return [
            f"{one['id']} ({one['impact']}): {one['help']}: "
            + "; ".join(
                f"{node['html'][:160]} {node.get('failureSummary', '')[:200]}" for node in one["nodes"][:5]
            )
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]

    def shoot(self, path: Path) -> None:
        """The whole page, however long, as a picture."""
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        width = self.driver.execute_script("return window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 4000), "scale": 1}
        taken = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def browser(base: str) -> Iterator[Browser]:
    """Ends with its driver. Left out where the machine has no Chromium; on a build machine that fails."""
    options = ChromeOptions()
    options.binary_location = machine_tools.need("chromium", "chromium", "chromium-browser", "google-chrome")
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(machine_tools.need("chromium-driver", "chromedriver"))
    driver = Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(WAIT_S)
        driver.set_script_timeout(WAIT_S)
        yield Browser(driver, base)
    finally:
        driver.quit()
