from django.apps import AppConfig
from django.core.checks import register


class BrokerConfig(AppConfig):
    name = "broker"
    verbose_name = "Token broker"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from broker.checks import check_settings  # noqa: PLC0415 models are not loaded before

        register(check_settings)
