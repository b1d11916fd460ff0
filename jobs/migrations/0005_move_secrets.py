"""Secrets leave the variables of jobs and of runs: encrypted where a job still needs them, masked elsewhere."""

import re

from django.db import migrations

from core import encryption
from core.timestamps import utc_now
from jobs.secrets import MASK, PURPOSE, looks_secret

_BY = "an upgrade, from the environment of a job"
_ACTIVE = ("queued", "running")


class Store:
    """The secrets that were moved; one name stands for one value."""

    def __init__(self, Secret):
        self.model = Secret
        self.values = {}

    def add(self, job, variable, value):
        """Store a value and return its entry in a job's secrets."""
        plain = re.sub(r"[^A-Za-z0-9_]", "_", variable)
        name = plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"
        if self.values.get(name, value) != value:
            name = re.sub(r"[^A-Za-z0-9_]", "_", f"JOB{job.pk}_{name}")
        number = 2
        while self.values.get(name, value) != value:
            name, number = f"{name}_{number}", number + 1
        if name not in self.values:
            self.values[name] = value
            encrypted = encryption.encrypt(value, purpose=PURPOSE)
            self.model.objects.create(name=name, encrypted=encrypted, changed_at=utc_now(), changed_by=_BY)
        return variable if name == variable else f"{variable}={name}"


def move(apps, schema_editor):
    Job, JobRun = apps.get_model("jobs", "Job"), apps.get_model("jobs", "JobRun")
    store = Store(apps.get_model("jobs", "Secret"))
    for job in Job.objects.order_by("id"):
        if moved := _secrets_in(job.environment):
            job.secrets = [store.add(job, name, value) for name, value in moved.items()]
            job.environment = {name: value for name, value in job.environment.items() if name not in moved}
            job.save(update_fields=["secrets", "environment"])
    changed = []
    for run in JobRun.objects.only("id", "state", "definition", "job_id").iterator(500):
        environment = run.definition.get("environment") if isinstance(run.definition, dict) else None
        if moved := _secrets_in(environment):
            if run.state in _ACTIVE:  # it needs them still
                run.definition["secrets"] = [store.add(run, name, value) for name, value in moved.items()]
                rest = {name: value for name, value in environment.items() if name not in moved}
            else:
                rest = {**environment, **dict.fromkeys(moved, MASK)}
            run.definition["environment"] = rest
            changed.append(run)
    JobRun.objects.bulk_update(changed, ["definition"], batch_size=100)


def _secrets_in(environment):
    pairs = environment.items() if isinstance(environment, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, str) and looks_secret(name, value)}


class Migration(migrations.Migration):
    dependencies = [("jobs", "0004_secrets")]
    operations = [migrations.RunPython(move, migrations.RunPython.noop)]
