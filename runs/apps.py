from django.apps import AppConfig
from django.db.models.signals import post_save


class RunsConfig(AppConfig):
    name = "runs"

    def ready(self) -> None:
        from agents.models import Agent  # noqa: PLC0415 - models are ready only now
        from runs import bell, gauges, jobs  # noqa: PLC0415
        from station.accounts.models import Environment, QueueSwitch  # noqa: PLC0415
        from station.observe.metrics import register_collector  # noqa: PLC0415

        jobs.register()
        register_collector(gauges.collect)
        for model in (Agent, Environment, QueueSwitch):
            post_save.connect(bell.ring_for_freed, sender=model, dispatch_uid="runs.bell")
