from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "runs"

    def ready(self) -> None:
        from runs import gauges, jobs  # noqa: PLC0415 - models are ready only now
        from station.observe.metrics import register_collector  # noqa: PLC0415

        jobs.register()
        register_collector(gauges.collect)
