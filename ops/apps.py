from django.apps import AppConfig
from django.contrib.admin import apps

from ops.checks import system


class OpsConfig(AppConfig):
    name = "ops"
    default = True

    def ready(self) -> None:
        system.register()


class OperationsAdminConfig(apps.SimpleAdminConfig):
    """Django's admin, with the project's own site for the default one.

    lobwife.urls looks for the admin modules, since they are half of what a start imports and only web has pages.
    """

    default = False
    default_site = "ops.site.OperationsSite"
