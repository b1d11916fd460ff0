from django.apps import AppConfig

from lobwife import checks


class LobwifeConfig(AppConfig):
    name = "lobwife"

    def ready(self) -> None:
        checks.register()
