"""Images of the servers that compose.yaml names, from Debian's packages and the wheel of SeaweedFS.

They stand in for the real ones, which cannot be pulled without a registry: the same programs in other
versions, started as those images start them.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from devstack.programs import REPOSITORY, find_programs
from tests.deploy.base_image import NAME as BASE
from tests.deploy.base_image import import_base

if TYPE_CHECKING:
    from tests.deploy.engine import Engine

BUILD_SECONDS: Final = 900.0
INSTALL: Final = f"""\
FROM {BASE}
RUN printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d \\
    && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends """
# As the entry points of the official images: prepare the volume as root, give root up, run the given command.
POSTGRES: Final = f"""\
{INSTALL}postgresql-15
ENV PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data
RUN install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data
COPY start /usr/local/bin/start
ENTRYPOINT ["sh", "/usr/local/bin/start"]
"""
POSTGRES_START: Final = """\
set -e
user="setpriv --reuid=postgres --regid=postgres --clear-groups"
chown postgres:postgres "$PGDATA" /var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    echo "$POSTGRES_PASSWORD" > /tmp/password && chown postgres /tmp/password
    $user initdb --username="$POSTGRES_USER" --pwfile=/tmp/password \\
        --auth-host=scram-sha-256 --auth-local=trust
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    $user pg_ctl --wait --options="-c listen_addresses=''" start
    $user createdb --username="$POSTGRES_USER" "$POSTGRES_DB" --host=/var/run/postgresql
    $user pg_ctl --wait stop
fi
exec $user "$@" -c listen_addresses='*'
"""
RABBITMQ: Final = f"""\
{INSTALL}rabbitmq-server
ENV PATH=/usr/lib/rabbitmq/bin:$PATH HOME=/var/lib/rabbitmq RUNNING_UNDER_SYSTEMD=true RABBITMQ_LOGS=-
RUN printf '[].' > /etc/rabbitmq/enabled_plugins
COPY start /usr/local/bin/start
ENTRYPOINT ["sh", "/usr/local/bin/start"]
CMD ["rabbitmq-server"]
"""
RABBITMQ_START: Final = """\
set -e
printf 'default_user = %s\\ndefault_pass = %s\\nlog.console = true\\nlog.file = false\\n' \
    "$RABBITMQ_DEFAULT_USER" "$RABBITMQ_DEFAULT_PASS" > /tmp/rabbitmq.conf
export RABBITMQ_CONFIG_FILE=/tmp/rabbitmq.conf
chown rabbitmq:rabbitmq /var/lib/rabbitmq /var/log/rabbitmq /tmp/rabbitmq.conf
exec setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups "$@"
"""
NGINX: Final = f"{INSTALL}nginx curl\nSTOPSIGNAL SIGQUIT\n"
SEAWEEDFS: Final = f"""\
{INSTALL}wget
COPY weed /usr/bin/weed
VOLUME /data
ENTRYPOINT ["weed", "-logtostderr"]
"""


def build_servers(engine: Engine) -> None:
    """Build an image for each name in compose.yaml that is not ours. Raises EngineError."""
    import_base(engine)
    names = server_names()
    weed = find_programs(REPOSITORY / ".stack").weed
    _build(engine, names["postgres"], POSTGRES, start=POSTGRES_START)
    _build(engine, names["rabbitmq"], RABBITMQ, start=RABBITMQ_START)
    build_edge(engine)
    _build(engine, names["s3"], SEAWEEDFS, program=weed)


def build_edge(engine: Engine) -> str:
    """Build nginx's image; return its name. Raises EngineError."""
    name = server_names()["edge"]
    _build(engine, name, NGINX)
    return name


def server_names() -> dict[str, str]:
    """Return the images of compose.yaml's services that are not ours."""
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
    return {name: services[name]["image"] for name in ("postgres", "rabbitmq", "edge", "s3")}


def _build(
    engine: Engine, name: str, dockerfile: str, *, start: str = "", program: Path | None = None
) -> None:
    with tempfile.TemporaryDirectory(prefix="vod-image-") as folder:
        Path(folder, "Dockerfile").write_text(dockerfile)
        if start:
            Path(folder, "start").write_text(start)
        if program:
            shutil.copy(program, Path(folder, "weed"))
        engine.docker("build", "--network", "host", "--tag", name, folder, seconds=BUILD_SECONDS)
