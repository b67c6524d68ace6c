from django.apps import AppConfig


class ToolServersConfig(AppConfig):
    name = "toolservers"
