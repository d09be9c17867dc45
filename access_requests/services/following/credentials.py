"""Choose the token for an endpoint: from the settings, never from the database, never for another host."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from access_requests.errors import Invalid


def token_for(endpoint: str) -> str:
    """Return the token of that endpoint, "" if there is none."""
    if token := settings.GATEHOUSE_FOLLOW_TOKENS.get(endpoint):
        return str(token)
    return settings.GATEHOUSE_HUB_TOKEN if endpoint == settings.GATEHOUSE_HUB_ENDPOINT else ""


def token_mark(token: str) -> str:
    """Return a mark that distinguishes tokens without revealing them: keyed with this portal's secret."""
    return salted_hmac("gatehouse.following.token", token, algorithm="sha256").hexdigest()


def token_setting(endpoint: str) -> str:
    """Return the name of the setting for the endpoint's token."""
    if endpoint == settings.GATEHOUSE_HUB_ENDPOINT and endpoint not in settings.GATEHOUSE_FOLLOW_TOKENS:
        return "GATEHOUSE_HUB_TOKEN"
    return "GATEHOUSE_FOLLOW_TOKENS"


def has_token(endpoint: str) -> bool:
    """Return whether the portal has a token for that endpoint; the web process knows only that, not the token."""
    return endpoint in settings.GATEHOUSE_FOLLOW_ENDPOINTS or bool(token_for(endpoint))


def known_endpoints() -> list[str]:
    """Return the endpoints that have a token: the admin offers only these."""
    named = [
        settings.GATEHOUSE_HUB_ENDPOINT,
        *settings.GATEHOUSE_FOLLOW_TOKENS,
        *settings.GATEHOUSE_FOLLOW_ENDPOINTS,
    ]
    return [endpoint for endpoint in dict.fromkeys(named) if has_token(endpoint)]


def check_endpoint(endpoint: str) -> str:
    """Return the endpoint as it is stored. Raises `Invalid` unless it is https (http only on this machine) and not us."""
    text = endpoint.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        parts = urlsplit("")
    host, scheme = parts.hostname, parts.scheme
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if scheme not in {"http", "https"} or not host or not plain or len(text) > 200:
        raise Invalid(
            _("%(endpoint)r is not an endpoint: write an address such as https://huggingface.co.")
            % {"endpoint": endpoint}
        )
    address = f"{scheme}://{parts.netloc.lower()}{parts.path}"
    if address == settings.GATEHOUSE_URL:
        raise Invalid(_("That is this portal: its own requests need not be followed."))
    try:
        is_here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    if scheme == "http" and not is_here:
        raise Invalid(
            _("The token for %(host)s could be read on its way over plain http: write https://.")
            % {"host": host}
        )
    return address
