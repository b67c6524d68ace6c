from django.apps import AppConfig


class OpsConfig(AppConfig):
    name = "station.ops"
    label = "ops"
