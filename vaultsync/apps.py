from django.apps import AppConfig


class VaultsyncConfig(AppConfig):
    name = "vaultsync"
    verbose_name = "Vault"
    default_auto_field = "django.db.models.BigAutoField"
