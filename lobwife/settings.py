"""Settings, read top to bottom; docs/configuration.md lists the environment variables."""

import datetime
import importlib
import importlib.util
import os
import pathlib
import socket

import django_stubs_ext
from django.core.exceptions import ImproperlyConfigured

from core import env, logs
from lobwife import __version__

django_stubs_ext.monkeypatch()

VERSION = __version__
BASE_DIR = pathlib.Path(__file__).resolve().parent.parent
HOME = pathlib.Path.home()

# --- Where things are
STATE_DIR = env.path("LOBWIFE_STATE_DIR", HOME / "state")
DATABASE_FILE = "lobmob.db"
VAULT_PATH = env.path("VAULT_PATH", HOME / "vault")
ENVIRONMENT = env.text("LOBMOB_ENV", "prod")

# --- Doors
BIND = env.text("LOBWIFE_BIND", "127.0.0.1")
WEB_PORT = env.integer("LOBWIFE_WEB_PORT", 8080, at_least=1, at_most=65535)
API_PORT = env.integer("LOBWIFE_API_PORT", 8081, at_least=1, at_most=65535)
WEB_WORKERS = env.integer("LOBWIFE_WORKERS", 2, at_least=1, at_most=32)
WEB_REPLICAS = env.integer("LOBWIFE_WEB_REPLICAS", 1, at_least=1, at_most=100)
LOCAL_WEB_URL = env.local_url(BIND, WEB_PORT)
LOCAL_API_URL = env.local_url(BIND, API_PORT)
LOBWIFE_URL = env.text("LOBWIFE_URL", f"http://127.0.0.1:{API_PORT}")

# Without LOBWIFE_HOSTS, addresses and names without a dot are taken as well (access/hosts.py).
ANY_LOCAL_HOST = not env.text("LOBWIFE_HOSTS")
ALLOWED_HOSTS = [
    *env.words(
        "LOBWIFE_HOSTS",
        (
            "localhost",
            ".localhost",
            "127.0.0.1",
            "[::1]",
            "lobwife",
            ".lobmob",
            ".svc",
            ".svc.cluster.local",
            socket.gethostname(),
        ),
    )
]

# --- Callers of the API (docs/security.md)
API_AUTH = env.choice("LOBWIFE_API_AUTH", "", ("required", "open"))  # empty: as the database says
TRUST_LOOPBACK = env.boolean("LOBWIFE_TRUST_LOOPBACK", True)
LOCAL_ACCOUNTS: frozenset[int] | None = frozenset({0, os.geteuid()})  # whose programs are local; None: everybody's
TRUSTED_PROXIES = env.networks("LOBWIFE_TRUSTED_PROXIES")  # whose X-Forwarded-For says who the client is
TOKENS_PER_MINUTE = env.integer("LOBWIFE_TOKENS_PER_MINUTE", 600, at_most=1_000_000)  # 0: no limit
FAILED_AUTHENTICATIONS_PER_MINUTE = 30
KUBERNETES_API = env.kubernetes_api()
KUBERNETES_CREDENTIALS = env.path(
    "LOBWIFE_KUBERNETES_CREDENTIALS", pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
)
KUBERNETES_ROLES = env.pairs(
    "LOBWIFE_KUBERNETES_ROLES",
    {"lobmob/lobster": "agent", "lobmob/lobboss": "service", "lobmob/lobsigliere": "service"},
    allowed=("agent", "service", "operator", "viewer", "runner"),
)

# Writes of one caller in a minute, and the bytes that the history of a task may grow to by agents and services.
WRITES_PER_MINUTE = {
    "agent": env.integer("LOBWIFE_AGENT_WRITES_PER_MINUTE", 240),
    "service": env.integer("LOBWIFE_SERVICE_WRITES_PER_MINUTE", 2400),
    "runner": env.integer("LOBWIFE_SERVICE_WRITES_PER_MINUTE", 2400),
}
TASK_HISTORY_BYTES = env.integer("LOBWIFE_TASK_HISTORY_BYTES", 8 * 2**20, at_least=2**20)

# --- Leases. After so many that expired in a row a task fails; until then it waits, each time twice as long.
LEASE_STRIKES = env.counts("LOBWIFE_LEASE_STRIKES", {"default": 3})
LEASE_BACKOFF_SECONDS = env.integer("LOBWIFE_LEASE_BACKOFF_SECONDS", 10, at_most=86_400)
LEASE_BACKOFF_MOST_SECONDS = 900
# Claims that wait in a web process, in all and of one caller.
WAITING_CLAIMS = env.integer("LOBWIFE_WAITING_CLAIMS", 1000, at_most=10_000)
WAITING_CLAIMS_PER_CALLER = env.integer("LOBWIFE_WAITING_CLAIMS_PER_CALLER", 250, at_most=10_000)
# Readers that wait for events in a web process, in all and of one caller.
WAITING_READERS = env.integer("LOBWIFE_WAITING_READERS", 2000, at_most=10_000)
WAITING_READERS_PER_CALLER = env.integer("LOBWIFE_WAITING_READERS_PER_CALLER", 250, at_most=10_000)
# What agents may create under their own task: tasks under one, and levels.
SUBTASKS_PER_TASK = env.integer("LOBWIFE_SUBTASKS", 50, at_most=10_000)
SUBTASK_DEPTH = env.integer("LOBWIFE_SUBTASK_DEPTH", 3, at_most=100)
# Questions of a task that wait for an answer at a time.
OPEN_QUESTIONS = env.integer("LOBWIFE_OPEN_QUESTIONS", 20, at_most=1000)

# --- Secrets
DEBUG = env.boolean("LOBWIFE_DEBUG", False)


def _secret_key() -> str:
    """The key of the environment, else the one that the first start left in the state directory."""
    from_environment = env.text("LOBWIFE_SECRET_KEY")
    if from_environment:
        return from_environment
    path = STATE_DIR / "secret-key"
    try:
        if path.stat().st_mode & 0o007:
            raise ImproperlyConfigured(f"{path} is open to every user of this machine: chmod 600 it, then change it.")
        return path.read_text().strip()
    except OSError:
        return ""  # Django says so when it is needed; `manage.py migrate` makes one


SECRET_KEY = _secret_key()
# Keys that were in use before: what they signed stays good until they are taken out.
SECRET_KEY_FALLBACKS = [*env.words("LOBWIFE_SECRET_KEY_FALLBACKS")]

# --- Django
INSTALLED_APPS = [
    "lobwife.apps.LobwifeConfig",  # first: its `migrate` takes over databases of the older service
    "access",
    "events",
    "tasks",
    "django_apscheduler",  # before jobs, whose admin unregisters its
    "jobs",
    "broker",
    "vaultsync",
    "webhooks",
    "ops",
    "ops.apps.OperationsAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "axes",
    "ninja",
]
MIDDLEWARE = [
    "lobwife.middleware.RequestIdMiddleware",
    "lobwife.middleware.ApiMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "access.pages.PageMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "lobwife.middleware.PageCompressionMiddleware",
    "access.pages.LenientSessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "access.pages.SignInMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "lobwife.urls"
WSGI_APPLICATION = "lobwife.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "access.pages.open_access",
            ],
            "libraries": {"display": "core.display"},
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Database: SQLite in the state directory, or PostgreSQL where LOBWIFE_DATABASE_URL says so (docs/postgres.md).
# IMMEDIATE: a deferred transaction that upgrades fails at once, whatever the timeout. FULL: an accepted task survives a
# power cut. Web waits less than the daemon, so that every call is answered within 8 seconds, and pools its connections,
# which go back at the end of a request; elsewhere each thread keeps one.
DB_CONNECTIONS = env.integer("LOBWIFE_DB_CONNECTIONS", 0, at_most=1000)
_DB_TIMEOUT = env.integer("LOBWIFE_DB_TIMEOUT", 20, at_least=1, at_most=600)
_DATABASE_URL = env.text("LOBWIFE_DATABASE_URL")  # it has a password: in no setting that a page of errors shows
if _DATABASE_URL:
    if not all(importlib.util.find_spec(name) for name in ("psycopg", "procrastinate")):
        raise ImproperlyConfigured(
            "LOBWIFE_DATABASE_URL needs psycopg and procrastinate: pip install -r requirements-postgres.txt"
        )
    # Its tables, the queue of runs; before jobs, whose admin unregisters its pages.
    INSTALLED_APPS.insert(INSTALLED_APPS.index("jobs"), "procrastinate.contrib.django")
    PROCRASTINATE_AUTODISCOVER_MODULE_NAME = ""
    _settings_of = importlib.import_module("core.postgres.url").settings_of
    DATABASES = {
        "default": _settings_of("LOBWIFE_DATABASE_URL", _DATABASE_URL, connections=DB_CONNECTIONS, timeout=_DB_TIMEOUT)
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "core.sqlite",
            "NAME": STATE_DIR / DATABASE_FILE,
            "CONN_MAX_AGE": 0 if DB_CONNECTIONS else None,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "pool": DB_CONNECTIONS,
                "timeout": _DB_TIMEOUT,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                " PRAGMA wal_autocheckpoint=4000;",  # of 4 KiB: what is often written is copied a quarter as often
            },
            "TEST": {"NAME": STATE_DIR / "test-lobmob.db"},
        }
    }

DATABASE_NAME = DATABASES["default"]["NAME"]  # the installation's: tests have others

# --- People
PASSWORD_HASHERS = ["access.authentication.PBKDF2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "access.authentication.RoleBackend"]
SESSION_COOKIE_AGE = 60 * env.integer("LOBWIFE_SESSION_IDLE_MINUTES", 240, at_least=1, at_most=60 * 24 * 30)
# Who guesses is locked out by name and address together: by the name alone, anybody could lock operators out, and
# by the address alone one person's mistakes would lock out all who come through the same port-forward.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = datetime.timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True
AXES_HTTP_RESPONSE_CODE = 429
AXES_LOCKOUT_TEMPLATE = "admin/locked_out.html"
AXES_CLIENT_IP_CALLABLE = "access.authentication.limited_address_of"
AXES_WHITELIST_CALLABLE = "access.pages.has_own_limit"
AXES_SENSITIVE_PARAMETERS = ["password", "username"]
AXES_VERBOSE = False
LOGINS_PER_MINUTE = 20  # of one address: checking a password costs a third of a second of a worker
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
CSRF_FAILURE_VIEW = "access.expired_forms.csrf_failure"

# --- TLS, ended by a proxy that sets X-Forwarded-Proto. Without one, cookies go over plain HTTP, as do port-forwards.
TLS = env.boolean("LOBWIFE_TLS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = TLS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TLS else None
SECURE_HSTS_SECONDS = 31_536_000 if TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = TLS
SILENCED_SYSTEM_CHECKS = [
    "security.W008",  # no redirect to https: agents and probes inside the cluster call `/`, /health and /api over http
    "security.W021",  # browsers' preload lists are for public domains, their owner's to join
]

# --- Language, time: UTC everywhere, as the database has it. Django sets TZ to that; scripts get the one of the start.
os.environ.setdefault("LOBWIFE_TZ", os.environ.get("TZ", ""))
SCRIPTS_TZ = os.environ["LOBWIFE_TZ"]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "lobwife.formats"

# --- Static files
STATIC_URL = "static/"
STATIC_ROOT = env.path("LOBWIFE_STATIC_ROOT", BASE_DIR / "var" / "static")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- Bodies of requests
DATA_UPLOAD_MAX_MEMORY_SIZE = 2**20

# --- Scripts of jobs
JOB_SCRIPT_DIRS = [
    *(
        [pathlib.Path(part).expanduser() for part in env.words("LOBWIFE_SCRIPTS_DIR", separator=":")]
        or [pathlib.Path("/opt/lobmob/scripts/server")]
    ),
    STATE_DIR / "scripts",
    BASE_DIR / "jobs" / "scripts",
]

JOB_MAX_PARALLEL = env.integer("LOBWIFE_MAX_PARALLEL_RUNS", 4, at_least=1, at_most=1000)
JOB_GRACE_SECONDS = 5  # between SIGTERM and SIGKILL, at a time limit or an abort
JOB_SHUTDOWN_GRACE_SECONDS = 3  # the same when the daemon stops
JOB_OUTPUT_LIMIT_BYTES = env.integer("LOBWIFE_OUTPUT_LIMIT_BYTES", 10 * 2**20, at_least=1024)

# What prune() keeps of the past: the strictest of these decides.
JOB_KEEP_DAYS = env.integer("LOBWIFE_KEEP_RUNS_DAYS", 90, at_least=1, at_most=36500)
JOB_KEEP_RUNS = env.integer("LOBWIFE_KEEP_RUNS_PER_JOB", 1000, at_least=1)
JOB_KEEP_OUTPUT_BYTES = env.integer("LOBWIFE_KEEP_OUTPUT_BYTES", 200 * 10**6)

# --- The feed of events (docs/events.md): the stricter of these decides.
EVENTS_KEEP_DAYS = env.integer("LOBWIFE_KEEP_EVENTS_DAYS", 30, at_least=1, at_most=36500)
EVENTS_KEEP = env.integer("LOBWIFE_KEEP_EVENTS", 500_000, at_least=1000)

# --- Webhooks (docs/webhooks.md): private networks that they may go to, and for how long deliveries are kept.
WEBHOOK_PRIVATE = env.networks("LOBWIFE_WEBHOOK_PRIVATE")
WEBHOOK_KEEP_DAYS = env.integer("LOBWIFE_KEEP_DELIVERIES_DAYS", 14, at_least=1, at_most=3650)

# --- Alerts: apprise URLs, separated by blanks. They are secrets.
ALERT_URLS = env.words("LOBWIFE_ALERT_URLS", separator=" ")
PUBLIC_URL = env.text("LOBWIFE_PUBLIC_URL").rstrip("/")  # where people open the pages, for links in alerts
DAEMON_DOWN_SECONDS = env.integer("LOBWIFE_DAEMON_DOWN_SECONDS", 60, at_least=1)

# --- Token broker
GITHUB_API_URL = env.text("GITHUB_API_URL", "https://api.github.com")
GH_APP_ID = env.text("GH_APP_ID")
GH_APP_INSTALL_ID = env.text("GH_APP_INSTALL_ID")
# What a token may do, by the agent type of the registration, or `service:NAME`; "default" for all others.
BROKER_PERMISSIONS = {
    "default": {"contents": "write", "pull_requests": "write", "metadata": "read"},
    **env.json_object("LOBWIFE_BROKER_PERMISSIONS"),
}
BROKER_SERVICES = env.words(
    "LOBWIFE_BROKER_SERVICES", ("lobboss-init", "lobboss", "lobsigliere", "lobwife", "lobwife-sync")
)
BROKER_TASK_HOURS = env.integer("LOBWIFE_BROKER_TASK_HOURS", 0, at_most=24 * 365)  # 0: while the task is not over
BROKER_AUDIT_DAYS = env.integer("LOBWIFE_BROKER_AUDIT_DAYS", 365, at_least=1, at_most=36500)

# --- Vault
VAULT_REPO = env.text("VAULT_REPO")
# 0 was without a pause in the older service; a second is none to anybody.
VAULT_SYNC_INTERVAL = max(1, env.integer("VAULT_SYNC_INTERVAL", 300))

# --- Logs: stdout; the daemon adds daemon.log
LOGGING = logs.configuration()
