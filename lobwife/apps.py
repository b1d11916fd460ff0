from django.apps import AppConfig


class LobwifeConfig(AppConfig):
    name = "lobwife"
