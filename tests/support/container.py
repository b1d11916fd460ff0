"""The image's entrypoint, started as a container runtime starts it: its paths, a user, a volume, a network of its own.

Namespaces of the kernel stand in for Docker. With `image`, the unpacked file system of a built image is the root;
without one, this checkout and this Python lie where the image has them. There are no cgroups, no seccomp, and no
read-only root here.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
from typing import Any

from tests.support.installation import ROOT, Answer, wait_for

HOME = "/home/lobwife"
UNPRIVILEGED_PORTS_FROM = 1024
# What Docker and containerd leave to root.
CAPABILITIES = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot"
_PASSWD = "root:x:0:0:root:/root:/bin/bash\nlobwife:x:1000:1000::/home/lobwife:/bin/bash\n"
_GROUP = "root:x:0:\nlobwife:x:1000:\n"
_SETUP = """
set -e
ip link set lo up
for address in {addresses}; do ip address add "$address/32" dev lo; done
sysctl -qw net.ipv4.ip_unprivileged_port_start={ports_from}
if [ -n "{image}" ]; then
  mount --rbind /dev "{image}/dev"
  mount -t proc proc "{image}/proc"
else
  mount -t proc proc /proc
  mount -t tmpfs tmpfs /opt && mkdir -p /opt/lobwife/{{app,venv}}
  mount --bind "{app}" /opt/lobwife/app
  mount --bind "{venv}" /opt/lobwife/venv
  if [ "{python_top}" != /usr ]; then  # a Python in somebody's home, which other users may not enter
    mkdir /opt/python
    mount --bind "{python}" /opt/python
    mount -t tmpfs -o mode=755 tmpfs "{python_top}"
    mkdir -p "{python}"
    mount --bind /opt/python "{python}"
  fi
  mkdir -p "{app}/var/static" /opt/lobwife/static
  mount --bind "{app}/var/static" /opt/lobwife/static
  for each in passwd group; do mount --bind "{folder}/$each" "/etc/$each"; done
  mount -t tmpfs tmpfs /home && mkdir {home}
fi
mount --bind "{volume}" "{image}{home}"
mount -t tmpfs tmpfs "{image}/run" && mkdir -p "{image}/run/secrets/ssh-authorized-keys"
cp -r "{folder}/keys/." "{image}/run/secrets/ssh-authorized-keys/"
mount -t tmpfs -o mode=1777 tmpfs "{image}/tmp"
cd "{image}{home}"
exec {become} {command}
"""
# http.client within the container's network: what it prints is the status and the body.
_CALL = """
import http.client, json, sys
host, port, method, path, body, headers = json.loads(sys.argv[1])
connection = http.client.HTTPConnection(host, port, timeout=20)
connection.request(method, path, None if body is None else body.encode(), headers)
response = connection.getresponse()
print(json.dumps([response.status, dict(response.getheaders()), response.read().decode(errors="replace")]))
"""


def collect_static_files() -> None:
    """Collect this checkout's static files, as the image's build does."""
    code = "import django; django.setup(); from lobwife.web.prepare import collect_static_files as c; c()"
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "lobwife.settings", "LOBWIFE_STATIC_ROOT": f"{ROOT}/var/static"},
        cwd=ROOT,
        check=True,
    )


class Container:
    """One start of the image. Its pid namespace ends with it, sshd and scripts included."""

    def __init__(
        self,
        folder: pathlib.Path,
        volume: pathlib.Path,
        *arguments: str,
        user: str = "1000:1000",
        fs_group: int | None = None,
        image: str = "",
        app: pathlib.Path = ROOT,
        keys: str = "",
        capabilities: str = CAPABILITIES,
        ports_from: int = UNPRIVILEGED_PORTS_FROM,
        addresses: tuple[str, ...] = (),
        **environment: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        (folder / "passwd").write_text(_PASSWD)
        (folder / "group").write_text(_GROUP)
        (folder / "keys").mkdir(exist_ok=True)
        if keys:
            (folder / "keys" / "one").write_text(keys)
        uid, _, gid = user.partition(":")
        if fs_group is not None:
            give_to_group(volume, fs_group)
        groups = f"--groups {fs_group}" if fs_group is not None else "--clear-groups"
        bounding = "".join(f",+{name}" for name in capabilities.split(",") if name)
        become = f"setpriv --reuid {uid} --regid {gid or 0} {groups} --inh-caps -all --bounding-set -all{bounding}"
        if image:
            become = f"chroot {shlex.quote(image)} {become}"
        home = {"0": "/root", "1000": HOME}.get(uid, "/")  # as the runtime reads it in the image's passwd
        variables = {
            "PATH": "/opt/lobwife/venv/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": home,
            "LOBWIFE_BIND": "0.0.0.0",
            "LOBWIFE_STATIC_ROOT": "/opt/lobwife/static",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TINI_SUBREAPER": "1",
            "LOBWIFE_WORKERS": "1",  # what it is about is one start
            **environment,
        }
        entry = ["tini", "--", "lobwife"] if image else ["/opt/lobwife/app/deploy/bin/lobwife"]
        command = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in variables.items()), *entry, *arguments]
        setup = _SETUP.format(
            addresses=" ".join(addresses),
            ports_from=ports_from,
            image=image,
            app=app,
            venv=sys.prefix,
            python=sys.base_prefix,
            python_top="/" + pathlib.Path(sys.base_prefix).parts[1],
            folder=folder,
            home=HOME,
            volume=volume,
            become=become,
            command=shlex.join(command),
        )
        self.volume = volume
        self._log = folder / f"{volume.name}-{uid}.log"
        with self._log.open("ab") as log:
            namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
            as_root = ["sudo", "-n"] if os.geteuid() else []
            self.process = subprocess.Popen(
                [*as_root, *namespaces, "bash", "-c", setup], stdout=log, stderr=subprocess.STDOUT
            )

    # --- its processes
    @property
    def pid(self) -> int:
        """The first process of the container, as this machine sees it."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def run(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine's in the container's network."""
        into = ["nsenter", "--net", "--target", str(self.pid), "--"]
        as_root = ["sudo", "-n"] if os.geteuid() else []
        return subprocess.run([*as_root, *into, *command], capture_output=True, text=True, timeout=timeout, check=False)

    def listens_on(self, port: int) -> bool:
        with contextlib.suppress(OSError, IndexError):
            for line in pathlib.Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]:
                address, state = line.split()[1], line.split()[3]
                if int(address.rpartition(":")[2], 16) == port and state == "0A":
                    return True
        return False

    def capabilities(self, name: str) -> list[int]:
        """The ambient and effective capabilities of the processes whose command has this text."""
        values = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                same = os.readlink(folder / "ns" / "pid") == os.readlink(f"/proc/{self.pid}/ns/pid")
                if same and name.encode() in (folder / "cmdline").read_bytes().replace(b"\0", b" "):
                    lines = (folder / "status").read_text().splitlines()
                    values += [int(line.split()[1], 16) for line in lines if line.startswith(("CapAmb", "CapEff"))]
        return values

    def wait_until_well(self, seconds: float = 200) -> None:
        """Wait for a /health that is ok; fails with the log when the container ends."""
        wait_for(lambda: self.process.poll() is not None or self._is_well(), seconds, "all is well")
        assert self.process.poll() is None, self.log()

    def wait_for_end(self, seconds: float = 150) -> int:
        return self.process.wait(seconds)

    def stop(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                os.kill(self.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()  # and with it, by --kill-child, all of the container
                self.process.wait(15)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    # --- HTTP
    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        host: str = "127.0.0.1",
        port: int = 8081,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One call from within the container's network; raises OSError when nothing answers."""
        sent = body if isinstance(body, str | None) else json.dumps(body)
        call = json.dumps([host, port, method, path, sent, headers or {}])
        done = self.run(sys.executable, "-I", "-c", _CALL, call)
        if done.returncode:
            raise ConnectionError(done.stderr.strip().splitlines()[-1])
        status, answered, text = json.loads(done.stdout)
        return Answer(status, {name.lower(): value for name, value in answered.items()}, text.encode())

    def _is_well(self) -> bool:
        if not self.listens_on(8081):
            return False
        with contextlib.suppress(OSError, IndexError):
            return '"status":"ok"' in self.run("curl", "-sS", "http://127.0.0.1:8081/health").stdout.replace(" ", "")
        return False


def give(folder: pathlib.Path, uid: int) -> None:
    """Give a volume to a user."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)


def give_to_group(folder: pathlib.Path, group: int) -> None:
    """Do as Kubernetes' fsGroup does with a volume: the group may write everything, and what is made is the group's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, -1, group, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o2770 if path.is_dir() else 0o660))
