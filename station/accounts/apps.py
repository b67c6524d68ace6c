from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "station.accounts"
    label = "accounts"
