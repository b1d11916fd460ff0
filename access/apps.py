from django.apps import AppConfig

from access import checks


class AccessConfig(AppConfig):
    """Its label is the one that its tables, permissions and pages in the admin have."""

    name = "access"
    label = "lobwife"
    verbose_name = "API access"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        checks.register()
