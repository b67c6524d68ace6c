from django.apps import AppConfig


class ObserveConfig(AppConfig):
    name = "station.observe"
    label = "observe"
