from django.contrib.admin.apps import AdminConfig


class OperationsConfig(AdminConfig):
    """Django's admin, with the project's own site for the default one."""

    default_site = "lobwife.ops.site.OperationsSite"
