"""Django's settings, all from the environment; docs/operations.md describes every variable."""

from __future__ import annotations

from urllib.parse import urlsplit

import django
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from portal import environment
from portal.database import kinds

CHECKOUT = environment.CHECKOUT
GATEHOUSE_STATE = environment.state_folder()
GATEHOUSE_URL = environment.public_address("http://127.0.0.1:8000")
GATEHOUSE_DEMO = environment.flag("GATEHOUSE_DEMO")
GATEHOUSE_PROXIES = environment.networks("GATEHOUSE_PROXIES", "127.0.0.0/8,::1")
GATEHOUSE_SOURCES = environment.source_folders()
GATEHOUSE_HUB_ENDPOINT = environment.hub_endpoint("https://huggingface.co")
GATEHOUSE_HUB_TOKEN = environment.text("GATEHOUSE_HUB_TOKEN")
GATEHOUSE_HUB_REDIRECTS = environment.redirect_hosts("GATEHOUSE_HUB_REDIRECTS")
GATEHOUSE_FOLLOW_TOKENS = environment.follow_tokens()
GATEHOUSE_FOLLOW_ENDPOINTS = environment.follow_endpoints()
GATEHOUSE_SMOKE = environment.flag("GATEHOUSE_SMOKE", default=True)
GATEHOUSE_DELIVERY = environment.delivery()
GATEHOUSE_S3_BUCKET, GATEHOUSE_S3_PREFIX = environment.bucket(GATEHOUSE_DELIVERY)
GATEHOUSE_S3_ENDPOINT = environment.bucket_endpoint(GATEHOUSE_DELIVERY, GATEHOUSE_URL)
GATEHOUSE_S3_REGION = environment.text("GATEHOUSE_S3_REGION", "us-east-1")
GATEHOUSE_DATABASE_CONNECTIONS = environment.database_connections()
GATEHOUSE_WEB_PROCESSES = environment.web_processes(GATEHOUSE_DATABASE_CONNECTIONS)
GATEHOUSE_MOST_BODIES = environment.whole_number(
    "GATEHOUSE_MOST_BODIES", default=56 * GATEHOUSE_WEB_PROCESSES, most=1000
)
GATEHOUSE_MOST_BODIES_EACH = environment.whole_number("GATEHOUSE_MOST_BODIES_EACH", default=16, most=1000)
GATEHOUSE_MOST_UPLOADS = environment.whole_number("GATEHOUSE_MOST_UPLOADS", default=8, most=1000)
GATEHOUSE_LARGEST_UPLOAD = environment.whole_number("GATEHOUSE_LARGEST_UPLOAD", default=10**12, most=10**15)
GATEHOUSE_UPLOAD_PART = environment.whole_number("GATEHOUSE_UPLOAD_PART", default=2**28, most=10**12)
GATEHOUSE_TOKEN_RATE = environment.whole_number("GATEHOUSE_TOKEN_RATE", default=3000, most=10**6, least=0)
GATEHOUSE_ANONYMOUS_RATE = environment.whole_number(
    "GATEHOUSE_ANONYMOUS_RATE", default=12000, most=10**7, least=0
)
GATEHOUSE_ADDRESS_RATE = environment.whole_number("GATEHOUSE_ADDRESS_RATE", default=6000, most=10**6, least=0)
GATEHOUSE_STATEMENT_SECONDS = environment.whole_number(
    "GATEHOUSE_STATEMENT_SECONDS", default=kinds.STATEMENT_SECONDS, least=2, most=600
)
GATEHOUSE_NGINX_LOG = environment.log_file("GATEHOUSE_NGINX_LOG")
GATEHOUSE_SHARED_WEIGHTS = environment.flag("GATEHOUSE_SHARED_WEIGHTS")
GATEHOUSE_OIDC_ISSUERS = environment.oidc_issuers()
GATEHOUSE_ANCHOR_FILE = environment.anchor_file(GATEHOUSE_STATE)
GATEHOUSE_ANCHOR_MINUTES = environment.whole_number("GATEHOUSE_ANCHOR_MINUTES", default=60, most=10080)
GATEHOUSE_ANCHOR_MAIL = environment.addresses("GATEHOUSE_ANCHOR_MAIL")
GATEHOUSE_KEEP_MAIL_DAYS = environment.whole_number(
    "GATEHOUSE_KEEP_MAIL_DAYS", default=90, most=36500, least=7
)
GATEHOUSE_KEEP_SIGN_INS_DAYS = environment.whole_number(
    "GATEHOUSE_KEEP_SIGN_INS_DAYS", default=7, most=36500, least=2
)
WEIGHTS_ROOT = GATEHOUSE_STATE / "weights"

SECRET_KEY = environment.secret_key(GATEHOUSE_STATE)
DEBUG = False
# Every link is built from GATEHOUSE_URL, never from the Host header. The demo shows its emails on this
# machine without a sign-in, so it answers only to its own names: another site could point its name here.
ALLOWED_HOSTS = [urlsplit(GATEHOUSE_URL).hostname, "localhost", "[::1]"] if GATEHOUSE_DEMO else ["*"]
HTTPS = GATEHOUSE_URL.startswith("https://")

INSTALLED_APPS = [
    "portal",
    "portal.accounts",
    "access_requests",
    "model_ops",
    "portal.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.usersessions",
    "django_countries",
    "django_htmx",
    "csp",
]

MIDDLEWARE = [
    "portal.middleware.NoBodyForHeadMiddleware",
    "portal.middleware.PatienceMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "portal.middleware.ClientAddressMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "portal.middleware.BodyMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "portal.accounts.activity.SessionActivityMiddleware",
    "portal.accounts.middleware.StaffSecondFactorMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "portal.middleware.FormerIdMiddleware",
]

ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
APPEND_SLASH = False  # /{namespace}/{name} has none, and a redirect would lose a client's POST

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [CHECKOUT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "portal.context.site",
            ]
        },
    }
]

DATABASES = {"default": environment.database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = environment.redis_url()
CACHES = {
    "default": {
        "BACKEND": "portal.cache.ForgivingCache",
        "LOCATION": REDIS_URL,
        # Pages must work while the broker is down; the cache contains rate limits and nothing that must last.
        "OPTIONS": {"IGNORE_EXCEPTIONS": True, "SOCKET_CONNECT_TIMEOUT": 1, "SOCKET_TIMEOUT": 2},
        "KEY_PREFIX": "gatehouse",
    }
}
SESSION_ENGINE = "portal.accounts.sessions"

# Celery: rows own the work, the broker only wakes a worker (ARCHITECTURE.md, "The one way weights go").
CELERY_BROKER_URL = environment.broker_url(REDIS_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
QUEUES = {  # tasks that take long or wait for other machines delay nothing else; all others go into `default`
    "recovery": [
        f"model_ops.tasks.{name}"
        for name in ("run_recovery", "run_shard", "finish_recovery", "smoke_recovery")
    ],
    "mail": ["access_requests.tasks.send_mail", "access_requests.tasks.send_due_mail"],
    "remote": [
        *("access_requests.tasks.poll_followed", "access_requests.tasks.push_decision"),
        "model_ops.tasks.copy_to_bucket",
    ],
}
CELERY_TASK_ROUTES = {task: {"queue": queue} for queue, tasks in QUEUES.items() for task in tasks}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 2, "retry_on_timeout": True}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "portal.clock.Clock"
CELERY_BEAT_SCHEDULE = {
    "mail-due": {"task": "access_requests.tasks.send_due_mail", "schedule": 10.0, "options": {"expires": 30}},
    "grants-ending": {
        "task": "access_requests.tasks.close_ended_grants",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
    "downloads-due": {"task": "model_ops.tasks.move_downloads", "schedule": 5.0, "options": {"expires": 30}},
    "downloads-old": {
        "task": "model_ops.tasks.drop_old_download_days",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "following-due": {
        "task": "access_requests.tasks.follow_due",
        "schedule": 10.0,
        "options": {"expires": 30},
    },
    "bucket": {"task": "model_ops.tasks.copy_to_bucket", "schedule": 60.0, "options": {"expires": 60}},
    "housekeeping": {"task": "portal.tasks.housekeeping", "schedule": 3600.0, "options": {"expires": 3600}},
    "texts-outdated": {
        "task": "access_requests.tasks.render_outdated",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "uploads-left": {
        "task": "model_ops.tasks.clean_uploads",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "anchor-due": {
        "task": "access_requests.tasks.anchor_log",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "recoveries-due": {"task": "model_ops.tasks.resume_work", "schedule": 5.0, "options": {"expires": 30}},
}
if GATEHOUSE_DELIVERY != "s3":
    del CELERY_BEAT_SCHEDULE["bucket"]

AUTH_USER_MODEL = "accounts.User"
SILENCED_SYSTEM_CHECKS = ["auth.W004"]  # email addresses are unique in lower case, by a constraint
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", **extra}
    for name, extra in [
        ("UserAttributeSimilarityValidator", {}),
        ("MinimumLengthValidator", {"OPTIONS": {"min_length": 10}}),
        ("CommonPasswordValidator", {}),
        ("NumericPasswordValidator", {}),
    ]
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/me/"
LOGOUT_REDIRECT_URL = "/"

GATEHOUSE_INVITE = "portal.accounts.people.find_or_invite"  # access_requests never imports portal
GATEHOUSE_FIND_PERSON = "portal.accounts.people.find_person"
GATEHOUSE_IMPORT_PERSON = "portal.accounts.people.import_person"
ACCOUNT_ADAPTER = "portal.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["username", "email*", "password1*"]
ACCOUNT_FORMS = {
    "signup": "portal.accounts.forms.SignupForm",
    "login": "portal.accounts.forms.LoginForm",
    "reset_password": "portal.accounts.forms.ResetPasswordForm",
    "reset_password_from_key": "portal.accounts.forms.ResetPasswordKeyForm",
    "add_email": "portal.accounts.forms.AddEmailForm",
    "change_password": "portal.accounts.forms.ChangePasswordForm",
    "set_password": "portal.accounts.forms.SetPasswordForm",
}
ACCOUNT_USERNAME_MIN_LENGTH = 1
ACCOUNT_USER_MODEL_USERNAME_FIELD = "username"
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_CHANGE_EMAIL = True  # one address per account; a new one replaces it once confirmed
PASSWORD_RESET_TIMEOUT = 7 * 24 * 3600  # also how long an invitation's link works
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_LOGIN_ON_PASSWORD_RESET = True
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False  # all sessions end except the one that changed it
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600  # how many seconds a sign-in or confirmation counts as recent
# Wrong passwords and codes are counted in portal.accounts.guessing, emails to one address in the adapter.
# Nothing here is counted by account alone: a stranger could use up the account's limit.
ACCOUNT_RATE_LIMITS = {
    "login_failed": None,
    "reset_password": "10/m/ip",
    "reauthenticate": "10/m/ip",
    "change_password": "10/m/ip",
    "manage_email": "10/m/ip",
    "confirm_email": "6/m/ip,5/5m/key",
}
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if HTTPS else "http"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {
    "authenticate": "portal.accounts.forms.AuthenticateForm",
    "reauthenticate": "portal.accounts.forms.ReauthenticateForm",
}
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Gatehouse"
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not HTTPS
USERSESSIONS_TRACK_ACTIVITY = True

MAILER = environment.mailer()
OUTBOX_PAGE = not MAILER  # where emails are read if there is no mail server
_mail_backend = "portal.smtp.EmailBackend" if MAILER else "portal.outbox.OutboxBackend"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": _mail_backend, "OPTIONS": MAILER}}
else:
    EMAIL_BACKEND = _mail_backend
    if MAILER:
        EMAIL_HOST, EMAIL_PORT = MAILER["host"], MAILER["port"]
        EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = MAILER["username"], MAILER["password"]
        EMAIL_USE_TLS, EMAIL_USE_SSL = MAILER["use_tls"], MAILER["use_ssl"]
        EMAIL_TIMEOUT = MAILER["timeout"]
DEFAULT_FROM_EMAIL = environment.mail_sender()
SERVER_EMAIL = DEFAULT_FROM_EMAIL

STATIC_URL = "/static/"
STATICFILES_DIRS = [CHECKOUT / "portal" / "assets"]
WHITENOISE_USE_FINDERS = True  # files are served from where they are: no collectstatic, nothing to forget
WHITENOISE_MAX_AGE = 3600

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "gatehouse_session"
CSRF_COOKIE_NAME = "gatehouse_csrf"
CSRF_TRUSTED_ORIGINS = [GATEHOUSE_URL]
X_FRAME_OPTIONS = "DENY"
# Limits on one request. BodyMiddleware has already refused bodies above 1 MiB, except for uploads and the
# admin's forms, so anonymous people's data stays in memory.
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 2**20
FILE_UPLOAD_MAX_MEMORY_SIZE = 5 * 2**19
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
DATA_UPLOAD_MAX_NUMBER_FILES = 10
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "psycopg.pool": {
            "level": "ERROR"
        },  # each attempt to connect; `portal.unavailable` says why there is no connection
        "httpx": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
    },
}

if GATEHOUSE_DEMO and not GATEHOUSE_URL.startswith(("http://127.", "http://localhost", "http://[::1]")):
    raise ImproperlyConfigured(
        "GATEHOUSE_DEMO is for loopback only: anyone who reaches the portal can use its accounts and read its emails."
    )
