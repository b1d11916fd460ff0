from django.apps import AppConfig


class LobwifeConfig(AppConfig):
    """The commands that start things; its label leaves `lobwife` to access, whose tables have that name."""

    name = "lobwife"
    label = "composition"
