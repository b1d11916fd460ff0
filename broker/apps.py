from django.apps import AppConfig
from django.core.checks import register

from broker.checks import check_settings


class BrokerConfig(AppConfig):
    name = "broker"
    verbose_name = "Token broker"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(check_settings)
