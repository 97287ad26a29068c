"""A wallet in a browser, as a page sees it (EIP-1193): it asks its person, who is the test."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.browser import Browser

_WALLET = """
window.ethereum = { request: ({ method, params }) => new Promise((resolve, reject) => {
  if (method === "eth_requestAccounts") return resolve(window.__accounts || []);
  window.__asked = { method, params }; window.__answer = resolve; window.__refuse = reject; }) };
"""


@contextmanager
def wallet_in(window: Browser) -> Iterator[None]:
    """Every page that is opened meanwhile finds it; `window.__accounts` is what it shows."""
    driver = window.driver
    script = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WALLET})
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
