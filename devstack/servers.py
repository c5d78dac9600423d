"""The servers as parts: a private RabbitMQ node, Postgres, and SeaweedFS for S3."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from devstack.environment import BUCKET, own_values
from devstack.parts import FIRST, SERVERS, Creation, File, Part
from devstack.ports import GRPC_OFFSET

if TYPE_CHECKING:
    from devstack.programs import Programs
    from devstack.state import StackDir, State

PORTS = {
    "epmd": ("epmd",),
    "rabbitmq": ("rabbitmq", "rabbitmq-dist"),
    "postgres": ("postgres",),
    "seaweedfs": tuple(f"seaweedfs-{kind}" for kind in ("master", "volume", "filer", "s3")),
}
REPLACED_BY = {
    "epmd": "RABBITMQ_URL",
    "rabbitmq": "RABBITMQ_URL",
    "postgres": "DATABASE_URL",
    "seaweedfs": "S3_ENDPOINT_URL",
}


def server_names(state: State) -> list[str]:
    """Return the servers to run: those whose URL was not given."""
    return [name for name, variable in REPLACED_BY.items() if variable not in state.given]


def server_parts(directory: StackDir, state: State, programs: Programs) -> list[Part]:
    """Define the servers to run."""
    define = {"epmd": _epmd, "rabbitmq": _rabbitmq, "postgres": _postgres, "seaweedfs": _seaweedfs}
    return [define[name](directory, state, programs) for name in server_names(state)]


def _epmd(directory: StackDir, state: State, programs: Programs) -> Part:
    """Run Erlang's name server ourselves: one that RabbitMQ starts would outlive it."""
    port = state.ports["epmd"]
    return Part(
        name="epmd",
        stage=FIRST,
        argv=(str(programs.epmd), "-address", "127.0.0.1", "-port", str(port)),
        cwd=directory.root / "rabbitmq",
        answers=f"tcp://127.0.0.1:{port}",
        ports=PORTS["epmd"],
    )


def _rabbitmq(directory: StackDir, state: State, programs: Programs) -> Part:
    home = directory.root / "rabbitmq"
    return Part(
        name="rabbitmq",
        stage=SERVERS,
        argv=(str(programs.rabbitmq),),
        cwd=home,
        env={
            "HOME": str(home),
            "ERL_EPMD_PORT": str(state.ports["epmd"]),
            "RABBITMQ_NODENAME": "vod@localhost",
            "RABBITMQ_DIST_PORT": str(state.ports["rabbitmq-dist"]),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "none.config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script execs the server instead of supervising it
        },
        files=(
            File(home / "plugins", "[].\n"),
            File(home / ".erlang.cookie", state.secrets["cookie"], mode=0o400),
            File(home / "rabbitmq.conf", _rabbitmq_conf(state)),
        ),
        answers=own_values(directory, state)["RABBITMQ_URL"],
        ports=PORTS["rabbitmq"],
        grace_seconds=20.0,
    )


def _rabbitmq_conf(state: State) -> str:
    return (
        f"listeners.tcp.1 = 127.0.0.1:{state.ports['rabbitmq']}\n"
        f"default_user = vod\ndefault_pass = {state.secrets['rabbitmq']}\n"
        "log.file = false\nlog.console = true\nlog.console.level = info\n"
    )


def _postgres(directory: StackDir, state: State, programs: Programs) -> Part:
    home = directory.root / "postgres"
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(state.ports["postgres"]),
        "unix_socket_directories": "",
        "max_connections": "200",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "log_checkpoints": "off",
    }
    return Part(
        name="postgres",
        stage=SERVERS,
        argv=(
            *programs.as_postgres,
            str(programs.postgres_bin / "postgres"),
            *("-D", str(home / "data")),
            *(word for option in options.items() for word in ("-c", "=".join(option))),
        ),
        cwd=home,
        files=(File(home / "password", state.secrets["postgres"]),),
        creation=_cluster(directory, programs),
        pid_file=home / "data" / "postmaster.pid",
        owner=programs.postgres_uid,
        answers=own_values(directory, state)["DATABASE_URL"],
        ports=PORTS["postgres"],
        stop_signal=signal.SIGINT,  # fast shutdown: sessions are terminated
    )


def _cluster(directory: StackDir, programs: Programs) -> Creation:
    home = directory.root / "postgres"
    draft = home / "data.new"
    initdb = (str(programs.postgres_bin / "initdb"), "-D", str(draft), "-U", "vod", "--no-sync")
    access = (f"--pwfile={home / 'password'}", "--auth=scram-sha-256")
    words = ("--encoding=UTF8", "--locale=C.UTF-8")
    return Creation((*programs.as_postgres, *initdb, *access, *words), draft, home / "data")


def _seaweedfs(directory: StackDir, state: State, programs: Programs) -> Part:
    home = directory.root / "seaweedfs"
    ports = [state.ports[name] for name in PORTS["seaweedfs"]]
    kinds = ("master", "volume", "filer", "s3")
    key, secret = state.secrets["s3_access_key"], state.secrets["s3_secret_key"]
    return Part(
        name="seaweedfs",
        stage=SERVERS,
        argv=(
            *(str(programs.weed), "-logtostderr", "server", "-s3", f"-dir={home}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-{kind}.port={port}" for kind, port in zip(kinds, ports, strict=True)),
            *(f"-s3.config={home / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            # Unix sockets, relative to the directory because their paths must be short
            *("-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"),
            # no election for a single node (restarts take 2 s instead of 17), no telemetry
            *("-master.peers=none", "-master.telemetry=false"),
            *("-master.volumeSizeLimitMB=1024", "-volume.max=200", "-volume.preStopSeconds=0"),
        ),
        cwd=home,
        env={"WEED_MASTER_VOLUME_GROWTH_COPY_1": "2"},
        files=(File(home / "s3.json", _s3_identities(key, secret)),),
        answers=f"s3://{key}:{secret}@127.0.0.1:{ports[-1]}/{BUCKET}",
        ports=PORTS["seaweedfs"],
        grace_seconds=1.0,  # it would wait 15 s for its own streams; a kill loses nothing
        litter=tuple(
            f"/tmp/seaweedfs-{kind}-grpc-{port + GRPC_OFFSET}.sock"  # noqa: S108 - SeaweedFS's choice
            for kind, port in zip(kinds, ports, strict=True)
        ),
    )


def _s3_identities(key: str, secret: str) -> str:
    identity = {
        "name": "vod",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    return json.dumps({"identities": [identity]})
