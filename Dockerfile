# Any Debian with python3 (3.11 or newer) and its venv module will do. By its tag, so that each build has Debian's latest
# fixes; a build that must be repeatable names a digest: --build-arg BASE_IMAGE=python@sha256:…
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# A compiler for what has no wheel; it stays in this stage.
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends gcc libc6-dev \
 && headers="$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
 && if [ ! -e "$headers/Python.h" ]; then apt-get install -y -q --no-install-recommends python3-dev; fi
COPY requirements.txt requirements-scripts.txt requirements-postgres.txt /tmp/
RUN python3 -m venv /opt/lobwife/venv \
 && /opt/lobwife/venv/bin/pip install -q --require-hashes -r /tmp/requirements.txt \
 && /opt/lobwife/venv/bin/pip install -q --require-hashes -r /tmp/requirements-scripts.txt \
 && /opt/lobwife/venv/bin/pip install -q --require-hashes -r /tmp/requirements-postgres.txt \
 && /opt/lobwife/venv/bin/pip uninstall -q -y setuptools pip \
 && cd /opt/lobwife/venv/lib/python3*/site-packages \
 && find . -depth -type d -name tests -exec rm -rf {} + \
 && find . -path '*/LC_MESSAGES/*' ! -path '*/locale/en/*' -type f -delete \
 && find . -name '*.so*' -exec strip --strip-unneeded {} +
# Maps for the debuggers of browsers are most of what the pages of the API's description weigh; a second viewer of it, and
# Django's maps of the earth, are used by nothing.
RUN cd /opt/lobwife/venv/lib/python3*/site-packages \
 && rm -rf django/contrib/gis ninja/static/ninja/redoc.* \
 && find . -path '*/static/*' -name '*.js' -exec sed -i 's,//# sourceMappingURL=.*$,,' {} + \
 && find . -path '*/static/*' -name '*.css' -exec sed -i 's,/\*# sourceMappingURL=.*\*/,,' {} + \
 && find . -path '*/static/*' -name '*.map' -delete
COPY . /opt/lobwife/app
RUN cd /opt/lobwife/app \
 && DJANGO_SETTINGS_MODULE=lobwife.settings LOBWIFE_STATE_DIR=/tmp/state LOBWIFE_SECRET_KEY=only-for-the-build \
    LOBWIFE_STATIC_ROOT=/opt/lobwife/static \
    /opt/lobwife/venv/bin/python -c "import django; django.setup(); from lobwife.web.prepare import collect_static_files as c; c()" \
 && find /opt/lobwife/app -name __pycache__ -prune -exec rm -rf {} + \
 && /opt/lobwife/venv/bin/python -m compileall -q /opt/lobwife/app

FROM ${BASE_IMAGE}
# 0 leaves them out. They are Debian 13's also on Debian 12, whose own are years old: kubectl 1.20 and gh 2.23.
ARG INSTALL_GH=1
ARG INSTALL_KUBECTL=1
ARG TOOLS_SUITE=trixie
# dpkg leaves out manuals, translations, and of git what serves and mails with the Perl that only that needs.
COPY deploy/dpkg-excludes /etc/dpkg/dpkg.cfg.d/lobwife
# The second line of packages is for people on a shell.
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -q \
 && apt-get install -y -q --no-install-recommends \
    bash ca-certificates curl git jq openssh-server procps sqlite3 tini tzdata util-linux \
    less nano vim-tiny wget \
 && if ! grep -q "VERSION_CODENAME=$TOOLS_SUITE" /etc/os-release; then \
      keys=/usr/share/keyrings/debian-archive-keyring.gpg; \
      echo "deb [signed-by=$keys] http://deb.debian.org/debian $TOOLS_SUITE main" >/etc/apt/sources.list.d/tools.list; \
      apt-get update -q; \
    fi \
 && if [ "$INSTALL_GH" = 1 ]; then apt-get install -y -q --no-install-recommends "gh/$TOOLS_SUITE"; fi \
 && if [ "$INSTALL_KUBECTL" = 1 ]; then apt-get install -y -q --no-install-recommends "kubectl/$TOOLS_SUITE"; fi \
 && rm -f /etc/apt/sources.list.d/tools.list \
 && if [ -e /usr/bin/gh ]; then mv /usr/bin/gh /usr/bin/gh-real; fi \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/*.log \
    /etc/ssh/ssh_host_* \
 && groupadd --gid 1000 lobwife \
 && useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash --password '*' lobwife

COPY --from=build /opt/lobwife /opt/lobwife
RUN ln -s /opt/lobwife/app/deploy/bin/lobwife /opt/lobwife/app/deploy/bin/gh \
    /opt/lobwife/app/deploy/bin/git-credential-lobwife /opt/lobwife/app/deploy/bin/lobwife-agent /usr/local/bin/ \
 && helper='!gh auth git-credential'; [ -e /usr/bin/gh-real ] || helper=lobwife; \
    git config --system credential.https://github.com.helper "$helper"
# Who else owned the volume before doesn't keep scripts and people from its repositories.
RUN git config --system safe.directory '*'

ENV PATH=/opt/lobwife/venv/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    LOBWIFE_STATIC_ROOT=/opt/lobwife/static LOBWIFE_BIND=0.0.0.0
LABEL org.opencontainers.image.title="lobwife" \
      org.opencontainers.image.description="The operations centre of a fleet of coding agents"
# As `lobwife` by number, so that Kubernetes can tell that it isn't root. Started as root (`--user 0`, runAsUser: 0) it
# gives the volume to lobwife and goes on as that.
USER 1000:1000
WORKDIR /home/lobwife
EXPOSE 22 2222 8080 8081
HEALTHCHECK --interval=30s --timeout=3s --start-period=60s CMD curl -fsS http://127.0.0.1:${LOBWIFE_WEB_PORT:-8080}/health >/dev/null
ENTRYPOINT ["tini", "--", "lobwife"]
