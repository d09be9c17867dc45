"""A minimal browser for the demo: cookies, links, forms, redirects."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar

TIMEOUT = 30  # seconds per page


class WalkError(Exception):
    """A page was not as expected; the message is a sentence."""


@dataclass
class Form:
    """One form as the page shows it: its address, and the values it would send unchanged."""

    action: str
    method: str
    values: dict[str, list[str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    choices: dict[str, list[str]] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Reader(HTMLParser):
    """A parser that collects a page's text and its forms, with the values a browser would send."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.text: list[str] = []
        self._form: Form | None = None
        self._select = self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(a.get("action", ""), a.get("method", "get").lower())
            self.forms.append(self._form)
        elif self._form is not None and a.get("name"):
            self._read_control(self._form, tag, a)
        elif tag == "option" and self._form is not None and self._select:
            self._form.choices[self._select].append(a.get("value", ""))
            if "selected" in a:
                self._form.values[self._select] = [a.get("value", "")]

    def _read_control(self, form: Form, tag: str, a: dict[str, str]) -> None:
        name, kind = a["name"], a.get("type", "submit" if tag == "button" else "text").lower()
        if tag == "button" or kind in {"submit", "image"}:
            form.buttons.append((name, a.get("value", "")))
            return
        form.names.add(name)
        if tag == "select":
            self._select = name
            form.choices[name] = []
        elif tag == "textarea":
            self._area = name
            form.values[name] = [""]
        elif tag == "input" and (kind not in {"checkbox", "radio"} or "checked" in a):
            empty = "on" if kind in {"checkbox", "radio"} else ""
            form.values.setdefault(name, []).append(a.get("value", empty))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._area = ""

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._area and self._form is not None:
            self._form.values[self._area][0] += data


@dataclass
class Page:
    """An answer: its address after redirects, its text without tags, its forms."""

    status: int
    url: str
    html: str
    text: str
    forms: list[Form]

    def form(self, *names: str) -> Form:
        """Return the form that has all these inputs or buttons. Raises `WalkError` if there is none."""
        for form in self.forms:
            if set(names) <= form.names | {name for name, _ in form.buttons}:
                return form
        raise WalkError(f"{self.url} has no form with {', '.join(names)}.")

    def must_say(self, words: str) -> Page:
        """Return the page itself if it contains these words. Raises `WalkError` if not."""
        if words not in " ".join(self.text.split()):
            raise WalkError(f"{self.url} (status {self.status}) does not say “{words}”.")
        return self


class Visitor:
    """One browser window with its own cookies."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, address: str) -> Page:
        """Return the page at an address or path, after redirects."""
        return self._open_page(urllib.request.Request(urllib.parse.urljoin(self.origin, address)))

    def send(self, page: Page, form: Form, button: tuple[str, str] | None = None, /, **values: str) -> Page:
        """Fill in the form, keeping its other values, and submit it.

        A refusal raises `WalkError` with its words.
        """
        unknown = set(values) - form.names
        if unknown:
            raise WalkError(f"The form on {page.url} has no input {', '.join(sorted(unknown))}.")
        if button is not None and button not in form.buttons:
            raise WalkError(f"The form on {page.url} has no button {' = '.join(button)}.")
        filled = {**form.values, **{name: [value] for name, value in values.items()}}
        pairs = [(name, value) for name, several in filled.items() for value in several]
        body = urllib.parse.urlencode(pairs + ([button] if button else [])).encode()
        target = urllib.parse.urljoin(page.url, form.action) if form.action else page.url
        request = urllib.request.Request(
            target, data=body, headers={"Referer": page.url, "Origin": self.origin}
        )
        answer = self._open_page(request)
        if answer.status >= 400:
            words = " ".join(answer.text.partition("There is a problem")[2].split())[:300]
            raise WalkError(f"{answer.url} did not take the form (status {answer.status}): {words}")
        return answer

    def _open_page(self, request: urllib.request.Request) -> Page:
        try:
            answer = self._opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            answer = error
        except OSError as error:
            raise WalkError(f"{request.full_url} did not answer: {error}.") from error
        with answer:
            html = answer.read().decode("utf-8", "replace")
            reader = _Reader()
            reader.feed(html)
            page = Page(answer.status or 0, answer.url, html, "".join(reader.text), reader.forms)
        if page.status >= 500:
            raise WalkError(f"{page.url} answered {page.status}.")
        return page
