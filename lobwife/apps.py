from django.apps import AppConfig

from lobwife import checks
from lobwife.access import checks as access_checks


class LobwifeConfig(AppConfig):
    name = "lobwife"

    def ready(self) -> None:
        checks.register()
        access_checks.register()
