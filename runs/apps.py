from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "runs"

    def ready(self) -> None:
        from runs import jobs  # noqa: PLC0415 - models are ready only now

        jobs.register()
