"""The network of the nodes: one bridge per node, and addresses of this machine for its servers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTROL_PLANE: Final = "10.240.0.1"
SERVERS: Final = "10.240.0.2"  # Postgres, RabbitMQ and S3, which listen on loopback
CNI_PROGRAMS: Final = "/usr/lib/cni"  # of Debian's containernetworking-plugins
FORWARDED: Final = ("net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet")


def node_address(number: int) -> str:
    """Return the address of a node's kubelet."""
    return f"10.240.0.{10 + number}"


def set_up(nodes: int, server_ports: Iterable[int]) -> None:
    """Make addresses for the control plane, the servers and the nodes in this network namespace."""
    _ip("link", "add", "nodes", "type", "bridge")
    for address in (CONTROL_PLANE, SERVERS, *map(node_address, range(1, nodes + 1))):
        _ip("address", "add", f"{address}/32", "dev", "nodes")
    _ip("link", "set", "nodes", "up")
    _ip("route", "add", "default", "dev", "nodes")  # to Services' addresses, which kube-proxy then translates
    for name in FORWARDED:
        Path("/proc/sys", name).write_text("1")
    for port in server_ports:
        for chain in ("PREROUTING", "OUTPUT"):
            _translate(chain, SERVERS, port, "DNAT", "--to-destination", f"127.0.0.1:{port}")
        for chain in ("INPUT", "POSTROUTING"):  # of pods, of processes here: Postgres lets in only 127.0.0.1
            _translate(chain, "127.0.0.1", port, "SNAT", "--to-source", "127.0.0.1")


def for_pods(url: str) -> str:
    """Return the URL of one of the servers as pods reach it."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{SERVERS}:{parts.port}"))


def write_cni(folder: Path, number: int) -> None:
    """Write the configuration of a node's pod network."""
    folder.mkdir(parents=True)
    bridge = {
        "type": "bridge",
        "bridge": f"pods{number}",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(folder / "addresses"),
            "ranges": [[{"subnet": f"10.244.{number}.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    network = {"cniVersion": "0.4.0", "name": f"pods{number}", "plugins": [bridge]}
    (folder / "10-pods.conflist").write_text(json.dumps(network))


def _translate(chain: str, address: str, port: int, *target: str) -> None:
    rule = ("--destination", address, "--protocol", "tcp", "--dport", str(port))
    _run("iptables", "--table", "nat", "--append", chain, *rule, "--jump", *target)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
