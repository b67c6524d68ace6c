from django.apps import AppConfig


class ToolServersConfig(AppConfig):
    name = "toolservers"

    def ready(self) -> None:
        from station.observe.metrics import register_collector  # noqa: PLC0415
        from toolservers import gauges  # noqa: PLC0415 - models are ready only now

        register_collector(gauges.collect)
