from typing import Any

from django.apps import AppConfig
from django.core.signals import got_request_exception


class ObserveConfig(AppConfig):
    name = "station.observe"
    label = "observe"

    def ready(self) -> None:
        from django.contrib.auth.signals import (  # noqa: PLC0415 - needs the app registry
            user_logged_in,
            user_logged_out,
        )

        from station.observe import checks, health, sessions  # noqa: PLC0415

        health.register("database", checks.database, required=True)
        health.register("migrations", checks.migrations, required=True)
        health.register("redis", checks.doorbell, required=False)
        health.register("model", checks.model, required=False)
        got_request_exception.connect(_count, dispatch_uid="station.observe")
        user_logged_in.connect(sessions.began, dispatch_uid="station.observe")
        user_logged_out.connect(sessions.ended, dispatch_uid="station.observe")


def _count(**_: Any) -> None:
    from station.observe.metrics import ERRORS  # noqa: PLC0415

    ERRORS.labels("web").inc()
