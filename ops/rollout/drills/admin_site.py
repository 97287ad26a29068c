"""The admin site as a browser meets it: pages, cookies, CSRF tokens."""

import html
import re
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

import urllib3

from ops.rollout.drills.report import Failed

TIMEOUT_S = 15.0
OK, FOUND = 200, 302
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
HASH = re.compile(r"0x[0-9a-f]{64}")
ERROR = re.compile(r'<p class="vanta-error">(.*?)</p>', re.DOTALL)


class AdminSite:
    """One session. Every method raises Failed where the site does not answer as it should."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=TIMEOUT_S))
        self._cookies: dict[str, str] = {}

    def login(self, name: str, password: str) -> None:
        status, _ = self.submit("/admin/login/", username=name, password=password, next="/admin/")
        if status != FOUND:
            raise Failed(f"the admin site does not let {name} in: {status}")

    def submit(self, path: str, **fields: str) -> tuple[int, str]:
        """Open a page and send its form with its token; answers what came."""
        status, page = self.request("GET", path)
        token = TOKEN.search(page)
        if status != OK or token is None:
            raise Failed(f"{path} shows no form: {status}")
        return self.request("POST", path, csrfmiddlewaretoken=token[1], **fields)

    def request(self, method: str, path: str, **fields: str) -> tuple[int, str]:
        """Status and text; redirections are not followed."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if urlsplit(self._url).scheme == "https":
            headers["Referer"] = f"{self._url}{path}"  # Django asks for it there
        try:
            answer = self._http.request(
                method,
                f"{self._url}{path}",
                headers=headers,
                body=urlencode(fields) if method == "POST" else None,
                redirect=False,
            )
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise Failed(f"{method} {path}: {type(error).__name__}") from error
        for line in answer.headers.getlist("Set-Cookie"):
            self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return answer.status, answer.data.decode(errors="replace")

    def messages(self) -> str:
        """The front page, which shows what was said of the last action."""
        return self.request("GET", "/admin/")[1]


def hashes(page: str) -> list[str]:
    return HASH.findall(page)


def errors(page: str) -> str:
    """What a form complains of, in words."""
    return "; ".join(html.unescape(found.strip()) for found in ERROR.findall(page))
