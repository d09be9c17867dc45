"""Read the environment. A wrong value stops the start with one sentence that names it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
from email.utils import parseaddr
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

from portal.database import budget
from portal.parts import FOLLOW_ENDPOINTS, NO_KEY, OWNER_DATABASE

CHECKOUT = Path(__file__).resolve().parent.parent
WEB_PROCESSES_BY_DEFAULT = 8


def refuse(name: str, why: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name} {why}")


def text(name: str, default: str = "") -> str:
    """Return the value without surrounding spaces; the default if it is empty."""
    return os.environ.get(name, "").strip() or default


def flag(name: str, *, default: bool = False) -> bool:
    """Return True for `1`, `true`, `yes`, `on`; False for `0`, `false`, `no`, `off`; the default if unset."""
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise refuse(name, f"is {value!r}: write 1 or 0.")


def whole_number(name: str, *, default: int, most: int, least: int = 1) -> int:
    """Return a number from `least` to `most`, or the default if unset."""
    value = os.environ.get(name, "").strip()
    if value and not (value.isascii() and value.isdigit() and least <= int(value) <= most):
        raise refuse(name, f"is {value!r}: write a number from {least} to {most}.")
    return int(value) if value else default


def state_folder() -> Path:
    """Return `GATEHOUSE_STATE`, or else `.gatehouse` in the checkout."""
    folder = Path(os.environ.get("GATEHOUSE_STATE") or CHECKOUT / ".gatehouse").expanduser()
    if not folder.is_absolute():
        folder = Path.cwd() / folder
    if folder.exists() and not folder.is_dir():
        raise refuse("GATEHOUSE_STATE", f"names {folder}, which is a file: name a folder.")
    return folder


def secret_key(state: Path) -> str:
    """Return `SECRET_KEY`, or else the key in the state folder, created on first use (mode 0600).

    A part that signs nothing gets `none`: anything it signed by mistake would be accepted nowhere.
    """
    given = os.environ.get("SECRET_KEY")
    if given == NO_KEY:
        return secrets.token_urlsafe(48)
    if given:
        if len(given) < 32:
            raise refuse(
                "SECRET_KEY", "is shorter than 32 characters: give a long random text, or leave it out."
            )
        return given
    path = state / "secret_key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            fresh = path.with_name(f".secret_key.{os.getpid()}")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_urlsafe(48))
            with contextlib.suppress(FileExistsError):
                # Atomic: of two first starts one key wins, and it is never read half written.
                os.link(fresh, path)
            fresh.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise refuse(
            "GATEHOUSE_STATE", f"names {state}, where no secret key can be kept: {error.strerror}."
        ) from error


def http_address(name: str, default: str = "") -> str:
    """Return an http(s) address without a trailing slash, or the default if unset."""
    value = os.environ.get(name, default).strip().rstrip("/")
    if not value:
        return value
    parts = _split_address(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise refuse(name, f"is {value!r}: write an address such as https://models.example.org")
    return value


def _split_address(address: str) -> SplitResult:
    """Return the parts of an address; all are empty if a bracket or the port is malformed."""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


def hub_endpoint(default: str) -> str:
    """Return `GATEHOUSE_HUB_ENDPOINT` in the form stored with repositories that are followed there."""
    value = http_address("GATEHOUSE_HUB_ENDPOINT", default)
    endpoint = _clean_endpoint(value)
    if value and not endpoint:
        raise refuse(
            "GATEHOUSE_HUB_ENDPOINT", "names a user or a password: write scheme, host, port and path alone."
        )
    return endpoint


def _clean_endpoint(address: str) -> str:
    """Return scheme and host in lower case and the path unchanged; "" for anything more or less than that."""
    parts = _split_address(address)
    more = parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in {"http", "https"} or not parts.hostname or more:
        return ""
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"


def public_address(default: str) -> str:
    """Return `GATEHOUSE_URL`: scheme, host and port only, since the pages are at the root of their host."""
    value = http_address("GATEHOUSE_URL", default)
    parts = urlsplit(value)
    if parts.path or parts.username is not None:
        raise refuse("GATEHOUSE_URL", f"is {value!r}: write scheme, host and port alone, without a path.")
    return value


REDIRECT_HOST = re.compile(r"\.?(?!-)[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[0-9]{1,5})?")


def redirect_hosts(name: str) -> tuple[str, ...]:
    """Return hosts that a Hub may redirect to: `host`, `host:port`, or `.domain` for all hosts below it."""
    hosts = tuple(os.environ.get(name, "").replace(",", " ").lower().split())
    for host in hosts:
        if not REDIRECT_HOST.fullmatch(host) or (host.startswith(".") and "." not in host[1:]):
            raise refuse(
                name,
                f"holds {host!r}: write hosts such as files.example.org or .cdn.example.org, separated by commas.",
            )
    return hosts


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(name: str, default: str) -> list[Network]:
    """Return networks or single addresses, separated by commas in the variable."""
    texts = os.environ.get(name, default).replace(",", " ").split()
    try:
        return [ipaddress.ip_network(text) for text in texts]
    except ValueError as error:
        raise refuse(
            name, f"cannot be read ({error}): write networks such as 127.0.0.0/8,10.1.0.0/16."
        ) from error


def database() -> dict[str, object]:
    """Return `DATABASE_URL` as Django's setting: PostgreSQL, over TCP or a socket folder, pooled."""
    if not os.environ.get("DATABASE_URL"):
        raise refuse(
            "DATABASE_URL", "is not set: start with ./dev.py, or give postgresql://user:password@host/name."
        )
    parsed = _parse_database("DATABASE_URL")
    parsed["CONN_MAX_AGE"] = 0
    parsed["CONN_HEALTH_CHECKS"] = (
        True  # a pooled connection that was broken by a restart of the server is not used
    )
    options = dict(parsed.get("OPTIONS") or {})  # type: ignore[call-overload]
    parsed["OPTIONS"] = options | {"pool": True}  # its size and waiting times: portal/database
    return parsed


def database_connections() -> int:
    """Return `GATEHOUSE_DATABASE_CONNECTIONS`: the most connections of all parts on this machine together."""
    name = "GATEHOUSE_DATABASE_CONNECTIONS"
    return whole_number(name, default=budget.TOTAL, least=budget.FEWEST, most=10_000)


def web_processes(connections: int) -> int:
    """Return `GATEHOUSE_WEB_PROCESSES`: how many web processes share the connections.

    It must not exceed what the connections are enough for. The default is one per core, at most eight, within
    that limit.
    """
    most = budget.most_web_processes(connections)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = whole_number(
        "GATEHOUSE_WEB_PROCESSES", default=min(cores, WEB_PROCESSES_BY_DEFAULT, most), most=64
    )
    if count > most:
        raise refuse(
            "GATEHOUSE_WEB_PROCESSES",
            f"is {count}, and {connections} connections to the database allow at most {most}: raise"
            " GATEHOUSE_DATABASE_CONNECTIONS, or start fewer web processes.",
        )
    return count


def owner_database() -> dict[str, object]:
    """Return `GATEHOUSE_OWNER_DATABASE_URL`, for migrations only; empty if unset.

    It names the same database as `DATABASE_URL`.
    """
    if not os.environ.get(OWNER_DATABASE):
        return {}
    owner, portal = _parse_database(OWNER_DATABASE), database()
    if owner["NAME"] != portal["NAME"]:
        raise refuse(OWNER_DATABASE, "names another database than DATABASE_URL: only the user differs.")
    if not portal["USER"] or owner["USER"] == portal["USER"]:
        raise refuse(
            OWNER_DATABASE,
            "protects nothing unless DATABASE_URL names another user: give it one of its own, such as"
            " gatehouse_portal, which migrate makes.",
        )
    return owner


def _parse_database(name: str) -> dict[str, object]:
    another = refuse(name, "names another database: Gatehouse runs on PostgreSQL only.")
    address = os.environ.get(name, "").replace("#", "%23")  # in a password: there is no fragment
    try:
        parsed: dict[str, object] = dict(dj_database_url.parse(address))
    except dj_database_url.UnknownSchemeError as error:
        raise another from error
    except ValueError as error:
        raise refuse(name, "cannot be read: write postgresql://user:password@host:port/name.") from error
    if parsed["ENGINE"] != "django.db.backends.postgresql":
        raise another
    if str(parsed["NAME"]).startswith("/"):  # postgres://user@//folder/of/the/socket/name
        parsed["HOST"], parsed["NAME"] = str(parsed["NAME"]).rsplit("/", 1)
    parsed["ENGINE"] = "portal.database"
    return parsed


def redis_url() -> str:
    """Return `REDIS_URL`: `redis://`, `rediss://` or `unix:///path/to/socket`."""
    url = os.environ.get("REDIS_URL", "")
    if not url:
        raise refuse("REDIS_URL", "is not set: start with ./dev.py, or give redis://host:6379/0.")
    if _split_address(url).scheme not in {"redis", "rediss", "unix"}:
        raise refuse("REDIS_URL", "cannot be read: write redis://host:6379/0, rediss:// or unix:///path.")
    return url


def broker_url(redis: str) -> str:
    """Return the same server in Celery's form (`redis+socket://` for a socket)."""
    return redis.replace("unix://", "redis+socket://", 1) if redis.startswith("unix://") else redis


EMAIL_SCHEMES = {"smtp", "smtp+tls", "smtp+ssl", "smtps"}  # smtps means STARTTLS here, as does smtp+tls
MAIL_TIMEOUT = 20  # seconds for one answer; portal.smtp bounds the whole conversation


def mailer() -> dict[str, Any]:
    """Return `EMAIL_URL` as the SMTP backend's options; empty if unset.

    Without it, the outbox page shows the emails.
    """
    url = os.environ.get("EMAIL_URL", "")
    if not url:
        return {}
    parts = _split_address(url)
    if parts.scheme not in EMAIL_SCHEMES or not parts.hostname or parts.query:
        raise refuse(
            "EMAIL_URL",
            "cannot be read: write smtp+tls://user:password@host:587 (or smtp://, smtp+ssl://).",
        )
    return {
        "host": parts.hostname,
        "port": parts.port or 25,
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "use_tls": parts.scheme in {"smtp+tls", "smtps"},
        "use_ssl": parts.scheme == "smtp+ssl",
        "timeout": MAIL_TIMEOUT,
    }


def mail_sender() -> str:
    """Return `DEFAULT_FROM_EMAIL`: an address, or a name with the address in angle brackets."""
    value = text("DEFAULT_FROM_EMAIL", "Gatehouse <gatehouse@localhost>")
    try:
        validate_email(parseaddr(value)[1])
    except ValidationError as error:
        raise refuse(
            "DEFAULT_FROM_EMAIL", f"is {value!r}: write an address such as Gatehouse <gatehouse@example.org>."
        ) from error
    return value


def addresses(name: str) -> list[str]:
    """Return email addresses, separated by commas in the variable; none if unset."""
    found = [address for part in text(name).split(",") if (address := part.strip())]
    for address in found:
        try:
            validate_email(address)
        except ValidationError as error:
            raise refuse(name, f"holds {address!r}: write addresses such as auditor@example.org.") from error
    return found


def anchor_file(state: Path) -> Path:
    """Return `GATEHOUSE_ANCHOR_FILE`, or else `anchors.log` in the state folder."""
    value = text("GATEHOUSE_ANCHOR_FILE")
    if value and (not Path(value).is_absolute() or Path(value).is_dir()):
        raise refuse("GATEHOUSE_ANCHOR_FILE", f"is {value!r}: write the absolute path of a file.")
    return Path(value) if value else state / "anchors.log"


def log_file(name: str) -> Path | None:
    """Return the absolute path of a file that another program writes, or None if unset.

    The file may not exist yet.
    """
    value = text(name)
    if value and (not Path(value).is_absolute() or Path(value).is_dir()):
        raise refuse(name, f"is {value!r}: write the absolute path of nginx's JSON access log.")
    return Path(value) if value else None


def source_folders() -> list[Path]:
    """Return `GATEHOUSE_SOURCES`: folders, separated by `:`, from which the admin may take weights."""
    folders = []
    for text in filter(None, os.environ.get("GATEHOUSE_SOURCES", "").split(":")):
        folder = Path(text)
        if not folder.is_absolute() or not folder.is_dir():
            raise refuse(
                "GATEHOUSE_SOURCES", f"names {text}, which is not an existing folder with an absolute path."
            )
        folders.append(folder.resolve())
    return folders


def follow_tokens() -> dict[str, str]:
    """Return `GATEHOUSE_FOLLOW_TOKENS` as endpoint -> token.

    The variable contains `https://host=token` pairs separated by spaces. No error repeats a token.
    """
    tokens: dict[str, str] = {}
    for pair in os.environ.get("GATEHOUSE_FOLLOW_TOKENS", "").split():
        address, sign, token = pair.partition("=")
        endpoint = _clean_endpoint(address.rstrip("/"))
        if not endpoint or not sign or not token:
            raise refuse(
                "GATEHOUSE_FOLLOW_TOKENS",
                "cannot be read: write https://HOST=TOKEN pairs, separated by spaces.",
            )
        tokens[endpoint] = token
    return tokens


def follow_endpoints() -> list[str]:
    """Return `GATEHOUSE_FOLLOW_ENDPOINTS`: addresses, separated by spaces, that the worker has tokens for.

    This is for a part that has no tokens itself.
    """
    found = []
    for address in os.environ.get(FOLLOW_ENDPOINTS, "").split():
        endpoint = _clean_endpoint(address.rstrip("/"))
        if not endpoint:
            raise refuse(FOLLOW_ENDPOINTS, "cannot be read: write https://HOST, separated by spaces.")
        found.append(endpoint)
    return found


WAYS_OUT = ("own", "nginx", "s3")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PREFIX = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def delivery() -> str:
    """Return `GATEHOUSE_DELIVERY`: how the bytes of files are sent."""
    value = text("GATEHOUSE_DELIVERY", "own").lower()
    if value not in WAYS_OUT:
        raise refuse(
            "GATEHOUSE_DELIVERY", f"is {value!r}: write {', '.join(WAYS_OUT[:-1])} or {WAYS_OUT[-1]}."
        )
    if value == "s3" and find_spec("boto3") is None:
        raise refuse(
            "GATEHOUSE_DELIVERY", "is s3, and boto3 is not installed: install Gatehouse with its extra s3."
        )
    return value


def bucket(delivery: str) -> tuple[str, str]:
    """Return `GATEHOUSE_S3_BUCKET` and `GATEHOUSE_S3_PREFIX`; both are empty if no bucket is used.

    The prefix has no slashes around it.
    """
    if delivery != "s3":
        return "", ""
    name, prefix = text("GATEHOUSE_S3_BUCKET"), text("GATEHOUSE_S3_PREFIX").strip("/")
    if not name:
        raise refuse("GATEHOUSE_S3_BUCKET", "is not set: GATEHOUSE_DELIVERY=s3 needs the name of a bucket.")
    if not BUCKET.fullmatch(name):
        raise refuse(
            "GATEHOUSE_S3_BUCKET", f"is {name!r}: write a bucket's name alone, such as model-weights."
        )
    if prefix and (not PREFIX.fullmatch(prefix) or len(prefix) > 200):
        raise refuse("GATEHOUSE_S3_PREFIX", f"is {prefix!r}: write a path such as gatehouse/weights.")
    return name, prefix


CI_DIALECTS = ("github", "gitlab")
KNOWN_ISSUERS = "github=https://token.actions.githubusercontent.com gitlab=https://gitlab.com"


def oidc_issuers() -> dict[str, str]:
    """Return `GATEHOUSE_OIDC_ISSUERS` as issuer -> dialect.

    The variable contains `github=https://...` and `gitlab=https://...` separated by spaces, or `none`.
    """
    issuers: dict[str, str] = {}
    value = text("GATEHOUSE_OIDC_ISSUERS", KNOWN_ISSUERS)
    for pair in [] if value.lower() == "none" else value.split():
        dialect, _, address = pair.partition("=")
        parts = _split_address(address)
        safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1"})
        plain = not (parts.query or parts.fragment or parts.username is not None) and not address.endswith(
            "/"
        )
        if dialect not in CI_DIALECTS or not parts.hostname or not safe or not plain:
            raise refuse(
                "GATEHOUSE_OIDC_ISSUERS",
                f"holds {pair!r}: write github=https://HOST or gitlab=https://HOST, separated by spaces, or none.",
            )
        issuers[address] = dialect
    return issuers


def bucket_endpoint(delivery: str, portal: str) -> str:
    """Return `GATEHOUSE_S3_ENDPOINT`, which must be on its own host.

    huggingface_hub 1 treats another port of the same host as the same server.
    """
    value = http_address("GATEHOUSE_S3_ENDPOINT") if delivery == "s3" else ""
    if value and urlsplit(value).hostname == urlsplit(portal).hostname:
        raise refuse(
            "GATEHOUSE_S3_ENDPOINT",
            f"is {value!r}, on the host of GATEHOUSE_URL: give the bucket a host name of its own,"
            " or clients send it their tokens.",
        )
    return value
