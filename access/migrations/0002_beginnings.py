import pathlib

from django.db import migrations

# What the service before left beside its database, and the copy that is kept of a database that was taken over.
_LEFT_BEHIND = ("jobs.json", "tasks.json", "token-audit.json")
_COPY = ".pre-migration"
_TABLES = (("tasks", "Task"), ("broker", "LegacyRegistration"), ("broker", "TokenAudit"))


def begin(apps, schema_editor):
    """Callers of a database that was in use before have no credentials: they are let in until an operator decides."""
    in_use = _has_rows(apps) or _is_taken_over(schema_editor.connection)
    policies = apps.get_model("lobwife", "AccessPolicy").objects
    policies.get_or_create(pk=1, defaults={"initial": "open" if in_use else "required"})
    for name in ("Operators", "Viewers"):
        apps.get_model("auth", "Group").objects.get_or_create(name=name)


def _has_rows(apps):
    return any(apps.get_model(app, model).objects.exists() for app, model in _TABLES)


def _is_taken_over(connection):
    if connection.vendor != "sqlite":
        return False
    database = pathlib.Path(str(connection.settings_dict["NAME"]))
    names = [database.name + _COPY, *_LEFT_BEHIND, *(f"{name}.migrated" for name in _LEFT_BEHIND)]
    return any(database.with_name(name).exists() for name in names)


class Migration(migrations.Migration):
    dependencies = [
        ("lobwife", "0001_access"),
        ("tasks", "0001_initial"),
        ("broker", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]
    operations = [migrations.RunPython(begin, migrations.RunPython.noop)]
