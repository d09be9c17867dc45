"""Every route of the site as an address, hostile values for its parts, and a client that sends both unchanged."""

from __future__ import annotations

import http.client
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from django.urls import URLPattern, URLResolver
from django.utils.regex_helper import normalize

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "MADE-UP")
STAFF = ("reviewer", "owner", "auditor", "keeper", "root")
ODD_PARTS = [
    "abc", "0", "-1", "9999999999999999999999", "1.5", "%00", "a%00b", "_5F", "_00", "_ZZ", "%FF%FE", "%C3%28", "%ED%A0%80",
    "..", "%2e%2e%2f", "%252e%252e", "%2F", "%5c", "a" * 3000, "%F0%9F%92%A9", "%E2%80%AE", "%0d%0aX-In:1", "'", "\"<script>",
    "%25", "%zz", "main", "config.json", ";", "*", "%20", "+", "{}", "[]", "True", "None", "NaN", "1e400",
]  # fmt: skip
ODD_VALUES = [
    "", "abc", "(", "[", "*", "\\", "%", "0", "-1", "9999999999999999999999", "1e999", "NaN", "\0", "a\0b", "true", "None", "{}",
    "[]", "2026-13-45", "0000-00-00", "9999-12-31", "2026-01-01", "99:99", "00000000-0000", "é", "💩", "\u202e", "a" * 3000,
    "1,2,x", ",", "'", "\"", "\\x", "(?P<a", "a{99999999}", "{", "()" * 500, "(a+)+$", "10.0.0.0/99", "::", "Infinity",
]  # fmt: skip
LOOKUPS = [
    "", "__exact", "__iexact", "__regex", "__iregex", "__in", "__isnull", "__gte", "__lt", "__range", "__contains", "__icontains",
    "__startswith", "__year", "__month", "__day", "__date", "__week_day", "__hour", "__len", "__has_key", "__0", "__overlap",
    "__trigram_similar", "__search", "__unaccent", "__net_contained", "__bogus", "__exact__exact", "__", "____x",
]  # fmt: skip
PLAIN_FIELDS = [
    "q", "o", "p", "all", "e", "_popup", "_to_field", "_facets", "_changelist_filters", "app_label", "model_name", "field_name",
    "term", "page", "next", "before", "cursor", "limit", "search", "filter", "sort", "expand", "full", "author", "since", "until",
    "person", "model", "state", "country", "standing", "sides", "held", "recursive", "direction", "code", "user_code", "email",
    "repo_id", "x__y__z", "pk", "id", "pk__in", "action", "lang", "format", "index", "is_superuser__exact", "password__startswith",
]  # fmt: skip
HEADERS = [
    ("Accept-Language", "x" * 3000), ("Accept-Language", "de;q=NaN,,;;"), ("Accept", "*/*;q=x"), ("Range", "bytes=-0,9-1,x"),
    ("Range", "bytes=0-99999999999999999999999"), ("If-Range", "\xff"), ("If-None-Match", "W/\"" + "a" * 3000),
    ("If-Modified-Since", "Fri, 99 Foo 99999 99:99:99 GMT"), ("If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 GMT"),
    ("If-Unmodified-Since", "\xff"), ("X-Forwarded-For", "'\xff, ,::"), ("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "\xff"),
    ("Forwarded", "for=\"[::\""), ("Host", "["), ("Host", "a..b:99999"), ("Host", "\xff"), ("Referer", "http://["), ("Referer", "\xff" * 900),
    ("Origin", "null"), ("Origin", "http://["), ("HX-Request", "true"), ("HX-Current-URL", "http://["), ("HX-Current-URL-URI-AutoEncoded", "true"),
    ("User-Agent", "\xff" * 2000), ("User-Agent", ""), ("Authorization", "Bearer "), ("Authorization", "Bearer \xff\xfe"),
    ("Authorization", "Basic %%%"), ("Authorization", "Bearer " + "a" * 4000), ("Authorization", "Basic Og=="), ("Authorization", "gth_x"),
    ("Content-Encoding", "gzip"), ("Expect", "100-continue"), ("X-HTTP-Method-Override", "DELETE"), ("X-Requested-With", "XMLHttpRequest"),
    ("Cookie", "gatehouse_session=\xff\xfe; gatehouse_csrf=; messages=[[\x22]]"), ("Cookie", "messages=" + "x" * 3000), ("Cookie", ";;=;" * 200),
    ("X-Amzn-Trace-Id", "\xff"), ("Sec-Fetch-Mode", "x"), ("Content-Language", "\xff"), ("X-CSRFToken", "\xff"), ("Upgrade", "h2c"),
]  # fmt: skip
FORM, JSON, MULTIPART = "application/x-www-form-urlencoded", "application/json", "multipart/form-data"
BODIES: list[tuple[str, bytes]] = [
    (JSON, b""), (JSON, b"null"), (JSON, b"[]"), (JSON, b"{}"), (JSON, b"7"), (JSON, b'"x"'), (JSON, b"NaN"), (JSON, b"{"), (JSON, b"\xff"),
    (JSON, b"[" * 5000), (JSON, b'{"a":' * 3000 + b"1" + b"}" * 3000), (JSON, b'{"user": "\\ud800", "status": "accepted"}'),
    (JSON, b'{"user": "a\\u0000b", "status": "accepted"}'), (JSON, b'{"user": {"user": 1}, "status": ["x"]}'),
    (JSON, b'{"files": [{"path": "\\ud800", "size": 1e400, "sample": 7}]}'), (JSON, b'{"files": {"a": 1}}'),
    (JSON, b'{"objects": [{"oid": 7, "size": -1}], "operation": "upload"}'), (JSON, b'{"operation": ["upload"], "objects": 7}'),
    (JSON, b'{"name": "\\u0000", "organization": "maker", "type": 7}'), (JSON, b'{"name": ' + b"9" * 5000 + b"}"),
    (JSON, b'{"content": "---\\n\\u0000: [\\n---", "repoType": 7}'), (JSON, b'{"gated": NaN, "private": "x"}'),
    (JSON, b'[{"token": 7, "url": "\\ud800"}]'), (JSON, b'{"paths": ["\\ud800", "a\\u0000"], "expand": 7}'),
    ("application/x-ndjson", b'{"key": "header", "value": 7}\n'), ("application/x-ndjson", b'{"key": "file"}\n\xff\n'),
    ("application/x-ndjson", b'{"key":"header","value":{"summary":"\\ud800"}}\n{"key":"file","value":{"path":"\\u0000","content":"%%","encoding":"base64"}}\n'),
    (FORM, b"a=b"), (FORM, b"%"), (FORM, b"%00=%00"), (FORM, b"a=" + b"\xff" * 50), (FORM, b"&=&" * 800), (FORM, b"a=1&" * 1100),
    (FORM, b"action=delete_selected&_selected_action=abc&_selected_action=9999999999999999999999"),
    (FORM, b"action=try_again&_selected_action=%00&select_across=1&index=x"), (FORM, b"action=sign_out_machines&_selected_action=1&index=0"),
    (FORM, b"action=made_up&_selected_action=1&index=99999"), (FORM, b"outcome=approved&reason_code=%00&words=%00&to=pending&seen=9999999999999999999999"),
    (FORM, b"outcome=rejected&reason_code=no_such&words=x&to=nonsense&seen=abc&back_words=x"), (FORM, b"seen=pending&reason=%00&poll_every=99999999999999999999"),
    (FORM, b"username=%00&email=a%00%40b.c&password=%00&password1=x&login=%00&code=%00&next=//evil.example.org&token=%00&key=x"),
    (FORM, b"email=%ED%A0%80%40x.y&first_name=%ED%A0%80&last_name=%F0%9F%92%A9&country=ZZZ&orcid=%00&action_add=&institution=%00"),
    (FORM, b"grant_type=urn:ietf:params:oauth:grant-type:device_code&device_code=%00&client_id=%00"),
    (FORM, b"grant_type=refresh_token&refresh_token=%FF%FE"), (FORM, b"grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=a.b.c"),
    (FORM, b"grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=e30.e30.&subject_token_type=x&audience=%00&resource=%00"),
    (FORM, b"user_code=%00&decision=approve&name=%00&networks=10.0.0.0/99&days=9999999999999&kind=nonsense&grant=abc&expires=9999-99-99"),
    (FORM, b"name=x&days=&networks=%00&kind=user&scope=x&issuer=%00&repository=a/b%00&ref=%00&environment=%ED%A0%80&workflow=%00&model=%00"),
    (FORM, b"card=%00&repo_id=a%00/b&gate=x&grant_days=99999999999999999999&listed=x&roles-TOTAL_FORMS=x&roles-INITIAL_FORMS=99999"),
    (FORM, b"roles-TOTAL_FORMS=2000&roles-INITIAL_FORMS=0&roles-MIN_NUM_FORMS=0&roles-MAX_NUM_FORMS=9&licence_versions-TOTAL_FORMS=-1"),
    (FORM, b"base=%00&diff=/etc/passwd%00&method=x&files=hf:%00&sha256=%ED%A0%80&retire=abc&name=%00&language=%00&text=%00&model=abc&far_id=%00&endpoint=%00"),
    (FORM, b"licence=abc&licence=9999999999999999999999&licences=%00&f1=%00&f2=" + b"x" * 20000), (FORM, b"credential=%7B&id=abc&name=%00&codes=x"),
    (FORM + "; charset=nonsense", b"a=b"), (FORM + "; charset=utf-16", b"a=b"), (FORM + "; charset=\xff".encode("latin-1").decode("latin-1"), b"a=b"),
    (MULTIPART, b"x"), (MULTIPART + "; boundary=", b"--\r\n"), (MULTIPART + "; boundary=\xff", b"x"), (MULTIPART + "; boundary=a", b"--a\r\nContent-Disposition: form-data\r\n\r\nx\r\n--a--"),
    (MULTIPART + "; boundary=a", b'--a\r\nContent-Disposition: form-data; name="licence_file"; filename="\0../x"\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%\r\n--a--\r\n'),
    (MULTIPART + "; boundary=a", b'--a\r\nContent-Disposition: form-data; name="file"; filename="' + b"x" * 3000 + b'"\r\nContent-Type: text/plain; charset=nonsense\r\n\r\n\xff\0\r\n--a--\r\n'),
    (MULTIPART + "; boundary=a", b'--a\r\nContent-Disposition: form-data; name*=nonsense\'\'%FF; filename*=x\r\nContent-Length: -1\r\n\r\nx\r\n--a--\r\n'),
    ("text/plain", b"x" * 1000), ("\xff", b"x"), ("application/octet-stream", b"\0" * 1000), ("application/json; charset=utf-32", b"{}"),
]  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One request; `who` names a role, and `token`, if set, a bearer token sent instead of a session."""

    who: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = ""
    body: bytes | None = None
    token: str = ""

    def __str__(self) -> str:
        return f"{self.who}{' (' + self.token + ')' if self.token else ''} {self.method} {self.path[:300]} {self.headers} {self.kind} {(self.body or b'')[:200]!r}"


@dataclass
class Got:
    status: int
    content: bytes = field(repr=False)


def routes(resolver: URLResolver, prefix: str = "") -> Iterator[str]:
    """Yield every pattern of the URL configuration as it is written; duplicates are possible."""
    for one in resolver.url_patterns:
        place = prefix + str(one.pattern)
        if isinstance(one, URLPattern):
            yield place
        else:
            yield from routes(one, place)


def template(route: str) -> tuple[str, list[str]]:
    """Return the route as a format string and the names of its fields.

    `rest` and `kind` stand for what a regular expression leaves open.
    """
    text = re.sub(r"<(?:\w+:)?(\w+)>", r"(?P<\1>x)", route) if "(?P" not in route else route
    text = text.replace("(?:/[\\s\\S]*)?", "/(?P<rest>x)").replace("[\\s\\S]*", "(?P<rest>x)")
    text = re.sub(r"\((\?:|\?P<\w+>)([\w|]+\|[\w]+)\)", lambda found: found[2].split("|")[0], text)
    text = text.replace("(?:/[^/]+)?", "/y").replace(".*", "x")
    made, names = normalize(text.replace(".git", "\\.git").replace("^", ""))[0]
    return "/" + made.replace("%%", "%"), names


def pretty(route: str, values: dict[str, str]) -> str:
    """Return the address with these values; fields without a value become `x`."""
    made, names = template(route)
    for name in names:
        made = made.replace(f"%({name})s", values.get(name, "x"))
    return made


class Drawer:
    """Draws hostile requests from a seed: the same seed gives the same requests."""

    def __init__(self, seed: int, planted: dict[str, Any], all_routes: list[str], who: list[str]) -> None:
        self.random = random.Random(seed)
        self.planted, self.routes, self.who = planted, all_routes, who
        self._turn = 0

    def draw(self) -> Asked:
        """Return the next request; every route is used once before any is repeated."""
        if self._turn % len(self.routes) == 0:
            self.random.shuffle(self.routes)
        route = self.routes[self._turn % len(self.routes)]
        self._turn += 1
        staff = route.startswith("admin/") and self.random.random() < 0.75
        who = self.random.choice([who for who in self.who if who in STAFF] if staff else self.who)
        method = (
            self.random.choice(METHODS)
            if self.random.random() < 0.35
            else self.random.choice(["GET", "GET", "GET", "POST", "POST", "PUT"])
        )
        path = self._path(route)
        if self.random.random() < 0.7:
            path += "?" + self._query(route)
        headers = tuple(self.random.sample(HEADERS, self.random.choice([0, 0, 0, 1, 2])))
        kind, body = "", None
        if method not in {"GET", "HEAD", "OPTIONS", "TRACE"}:
            kind, body = self.random.choice(BODIES)
        return Asked(who, method, path, headers, kind, body, self._token(who, route))

    def _token(self, who: str, route: str) -> str:
        """Return the name of a token, or "" for none; on routes that ignore tokens it is mostly ""."""
        chosen = self.random.choice(
            ["", who, f"{who}-person"] if "repo_id" in route or "api/" in route else ["", "", "", "", "", who]
        )
        return chosen if who != "anonymous" else ""

    def _path(self, route: str) -> str:
        made, names = template(route)
        for name in names:
            made = made.replace(f"%({name})s", self._value(route, name))
        if self.random.random() < 0.05:
            made = self.random.choice(["/.", "//", "/%2e", "/x/..", "/%00"]) + made
        return made + self.random.choice([*[""] * 36, "/", "%00", "/%00", ".json"])

    def _value(self, route: str, name: str) -> str:
        sane = {
            "repo_id": ["maker/open", "vault/hidden", "maker/none"],
            "namespace": ["maker", "vault"],
            "name": ["open", "hidden"],
            "rest": ["main", "main/config.json", "main/model.safetensors", "x"],
            "object_id": self._ids(route) or ["1"],
            "pk": self._ids(route) or ["1", "2", "3"],
        }
        if self.random.random() < 0.75 and name in sane:
            return self.random.choice(sane[name])
        odd = self.random.choice(ODD_PARTS)
        return f"{odd}/{self.random.choice(ODD_PARTS)}" if name == "repo_id" else odd

    def _ids(self, route: str) -> list[str]:
        found = re.match(r"admin/(\w+)/(\w+)/", route)
        return self.planted["ids"].get(f"{found[1]}.{found[2]}", []) if found else []

    def _query(self, route: str) -> str:
        return "&".join(self._pair(route) for _ in range(self.random.choice([1, 1, 2, 3])))

    def _pair(self, route: str) -> str:
        found = re.match(r"admin/(\w+)/(\w+)/", route)
        fields = self.planted["fields"].get(f"{found[1]}.{found[2]}", []) if found else []
        name = self.random.choice(PLAIN_FIELDS)
        if fields and self.random.random() < 0.7:
            name = self.random.choice(fields)
            if self.random.random() < 0.3:
                name += "__" + self.random.choice(
                    ["email", "id", "model__repo_id", "user__password", "applicant__email", "x__y"]
                )
            name += self.random.choice(LOOKUPS)
        value = self.random.choice(ODD_VALUES)
        return f"{quote(name)}={quote(value)}" if self.random.random() < 0.95 else f"{name}=%ED%A0%80%zz&%="


class Browser:
    """Sends requests byte for byte; each thread needs its own."""

    def __init__(self, url: str, planted: dict[str, Any]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self.planted = planted

    def send(self, asked: Asked) -> Got:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=120)
        connection._validate_path = lambda url: None  # type: ignore[attr-defined, method-assign]
        connection._validate_method = lambda method: None  # type: ignore[attr-defined, method-assign]
        try:
            line = asked.path.encode("utf-8").replace(b" ", b"%20").decode("latin-1")
            own_host = any(name == "Host" for name, _ in asked.headers)
            connection.putrequest(asked.method, line, skip_host=own_host, skip_accept_encoding=True)
            for name, value in (*self._own(asked), *asked.headers):
                connection.putheader(name, re.sub(r"[\r\n\0]", "?", value).encode("latin-1"))
            if asked.body is not None or asked.method == "POST":
                connection.putheader("Content-Length", str(len(asked.body or b"")))
            connection.endheaders(asked.body)
            answer = connection.getresponse()
            head = "\n".join(f"{name}: {value}" for name, value in answer.getheaders())
            return Got(answer.status, head.encode("utf-8", "replace") + b"\n\n" + answer.read())
        finally:
            connection.close()

    def _own(self, asked: Asked) -> list[tuple[str, str]]:
        """Return the sender's headers, with a valid CSRF token so that the request reaches the view."""
        csrf = "a" * 32
        cookies = [f"gatehouse_csrf={csrf}"]
        own = [("X-CSRFToken", csrf)]
        if asked.token and asked.token in self.planted["tokens"]:
            own.append(("Authorization", f"Bearer {self.planted['tokens'][asked.token]}"))
        elif asked.who != "anonymous":
            cookies.append(f"gatehouse_session={self.planted['sessions'][asked.who]}")
        own.append(("Cookie", "; ".join(cookies)))
        if asked.kind:
            own.append(("Content-Type", asked.kind))
        return own
