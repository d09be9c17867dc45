"""Define which environment variables each part of the portal gets.

This is the only such table: the supervisor gives every part the variables listed here and no others, and a
test compares `docker/compose.yaml` with it. PostgreSQL and Valkey get `SERVERS`; the workers' children get
those in `model_ops/child_environment.py`; nginx gets those that `docker/nginx/` reads, none of which is
secret.
"""

from __future__ import annotations

from collections.abc import Mapping

from model_ops.child_environment import DEVICES, MACHINE, NETWORK, chosen

OWNER_DATABASE = "GATEHOUSE_OWNER_DATABASE_URL"
FOLLOW_TOKENS, FOLLOW_ENDPOINTS = "GATEHOUSE_FOLLOW_TOKENS", "GATEHOUSE_FOLLOW_ENDPOINTS"
NO_KEY = "none"  # a SECRET_KEY for parts that sign nothing: `environment.secret_key` gives them a random one
NO_BROKER = "unix:///not-used"
NO_DATABASE = "postgres://nobody@//not-used/none"
SERVERS = ("PATH",)
PROCESS = (*MACHINE, "PYTHON*", "DJANGO_SETTINGS_MODULE", "GATEHOUSE_RUN", "GATEHOUSE_STATE")
HUB_CLIENT = ("HF_HOME", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_DISABLE_TELEMETRY")
# Settings that are not secret and that several parts must agree about.
SETTINGS = (
    *("GATEHOUSE_URL", "GATEHOUSE_DEMO", "GATEHOUSE_PROXIES", "GATEHOUSE_SOURCES", "GATEHOUSE_HUB_ENDPOINT"),
    *("GATEHOUSE_HUB_REDIRECTS", "GATEHOUSE_WEB_PROCESSES"),
    *("GATEHOUSE_SMOKE", "GATEHOUSE_NGINX_LOG", "GATEHOUSE_SHARED_WEIGHTS", "GATEHOUSE_DELIVERY"),
    *("GATEHOUSE_S3_ENDPOINT", "GATEHOUSE_S3_BUCKET", "GATEHOUSE_S3_PREFIX", "GATEHOUSE_S3_REGION"),
    *("GATEHOUSE_MOST_BODIES", "GATEHOUSE_MOST_BODIES_EACH", "GATEHOUSE_MOST_UPLOADS"),
    *("GATEHOUSE_LARGEST_UPLOAD", "GATEHOUSE_UPLOAD_PART", "GATEHOUSE_TOKEN_RATE", "GATEHOUSE_ADDRESS_RATE"),
    *("GATEHOUSE_OIDC_ISSUERS", "DEFAULT_FROM_EMAIL", "GATEHOUSE_ANONYMOUS_RATE"),
    *("GATEHOUSE_ANCHOR_FILE", "GATEHOUSE_ANCHOR_MINUTES", "GATEHOUSE_ANCHOR_MAIL"),
    *("GATEHOUSE_DATABASE_CONNECTIONS", "GATEHOUSE_STATEMENT_SECONDS"),
    *("GATEHOUSE_KEEP_MAIL_DAYS", "GATEHOUSE_KEEP_SIGN_INS_DAYS"),
)
SECRETS = (
    *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "EMAIL_URL", "GATEHOUSE_HUB_TOKEN"),
    *(FOLLOW_TOKENS, OWNER_DATABASE, "AWS_*"),
)
PARTS: dict[str, tuple[str, ...]] = {
    # signs sessions, shows emails if EMAIL_URL is empty, looks up sources at the Hub, signs links into the
    # bucket
    "web": (
        *(*PROCESS, *NETWORK, *HUB_CLIENT, *SETTINGS),
        *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "EMAIL_URL", "GATEHOUSE_HUB_TOKEN"),
        *(FOLLOW_ENDPOINTS, "AWS_*"),
    ),
    # deliveries, resuming, clean-up; writes emails into the database, and contacts no other machine
    "worker-default": (*PROCESS, *SETTINGS, "DATABASE_URL", "REDIS_URL", "SECRET_KEY"),
    # followed repositories and copies into the bucket; its key marks refused tokens
    "worker-remote": (
        *(*PROCESS, *NETWORK, *HUB_CLIENT, *SETTINGS),
        *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "GATEHOUSE_HUB_TOKEN", FOLLOW_TOKENS, "AWS_*"),
    ),
    # sends the emails in the database; signs nothing
    "worker-mail": (*PROCESS, *NETWORK, *SETTINGS, "DATABASE_URL", "REDIS_URL", "EMAIL_URL"),
    # makes weights and fetches their sources; signs and emails nothing
    "worker-recovery": (
        *(*PROCESS, *NETWORK, *HUB_CLIENT, *DEVICES, *SETTINGS),
        *("DATABASE_URL", "REDIS_URL", "GATEHOUSE_HUB_TOKEN"),
    ),
    # wakes the workers on time; reads no rows
    "beat": (*PROCESS, *SETTINGS, "REDIS_URL"),
    # the only part with the owner's address; DATABASE_URL names the role that it creates for the portal
    "migrate": (*PROCESS, *SETTINGS, "DATABASE_URL", OWNER_DATABASE),
    # the link for the first account, and gaps in the log's protection
    "report": (*PROCESS, *SETTINGS, "DATABASE_URL", "REDIS_URL", "SECRET_KEY"),
}
# What `./dev.py manage` takes from a running portal: everything except the owner's address.
CONFIGURATION = (*SETTINGS, *(name for name in SECRETS if name not in (OWNER_DATABASE, "AWS_*")))


def environment_of(part: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables in `given` that this part gets.

    A part without key, broker or database gets placeholders for them. A part that may only know which
    endpoints have a token gets their addresses. Raises KeyError for an unknown part.
    """
    names = PARTS[part]
    found = chosen(names, given)
    if given.get("GATEHOUSE_DELIVERY", "").strip().lower() != "s3":
        found = {name: value for name, value in found.items() if not name.startswith("AWS_")}
    if FOLLOW_ENDPOINTS in names and given.get(FOLLOW_TOKENS):
        found[FOLLOW_ENDPOINTS] = " ".join(pair.partition("=")[0] for pair in given[FOLLOW_TOKENS].split())
    if "SECRET_KEY" not in names:
        found["SECRET_KEY"] = NO_KEY
    if "REDIS_URL" not in names:
        found["REDIS_URL"] = NO_BROKER
    if "DATABASE_URL" not in names:
        found["DATABASE_URL"] = NO_DATABASE
    return found
