"""Django's settings, read from the typed configuration. What operators set is in station.config."""

import os
from pathlib import Path

import django_stubs_ext

from station.config import current

django_stubs_ext.monkeypatch()

config = current()
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = config.security.derive("django secret key").hex()
DEBUG = False
ALLOWED_HOSTS = list(config.api.allowed_hosts)
ROOT_URLCONF = "station.urls"
ASGI_APPLICATION = "station.asgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_prometheus",
    "corsheaders",
    "django.contrib.postgres",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "station.observe",
    "station.accounts",
    "toolservers",
    "agents",
    "runs",
    "station.ops",
]

MIDDLEWARE = [
    "station.observe.middleware.RequestContext",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

DATABASES = {"default": config.database.django()}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": config.redis.url.get_secret_value(),
    }
}

PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]
SESSION_COOKIE_AGE = int(config.security.session_timeout)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = config.tls.enabled
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_HSTS_SECONDS = 31_536_000 if config.tls.enabled else 0
CORS_ALLOWED_ORIGINS = list(config.api.cors_origins)
DATA_UPLOAD_MAX_MEMORY_SIZE = config.api.max_body

STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
LOGIN_URL = "admin:login"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "station.accounts.api.authentication.ApiKeyAuthentication",
        "station.accounts.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["station.rest.parsers.JsonBody"],
    "DEFAULT_PAGINATION_CLASS": "station.rest.pagination.CursorPage",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "station.rest.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Station",
    "DESCRIPTION": "Run AI agents as jobs: submit, follow, decide, audit.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "station.rest.schema.add_problems",
    ],
}

UNFOLD = {
    "SITE_TITLE": "Station",
    "SITE_HEADER": "Station",
    "SITE_SUBHEADER": "AI agents as jobs",
    "SITE_SYMBOL": "hub",
    "SITE_URL": None,
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": "/static/station/favicon.svg"},
    ],
    "STYLES": ["/static/station/admin.css"],
    "DASHBOARD_CALLBACK": "runs.admin.workers.dashboard",
    "SIDEBAR": {"navigation": "station.accounts.admin.navigation.sidebar"},
}

LOGGING_CONFIG = "station.observe.logging.configure"
LOGGING = {"level": config.log.level, "format": config.log.format}
