"""A node: containerd and a kubelet, with directories and control groups of their own."""

from __future__ import annotations

import errno
import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.kubelet.network import CNI_PROGRAMS, node_address, write_cni

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.cluster.control_plane import ControlPlane

GROUPS: Final = Path("/sys/fs/cgroup")
PAUSE: Final = "pause:1"
START_SECONDS: Final = 120
IMPORT_SECONDS: Final = 300
REMOVE_SECONDS: Final = 20
CONTAINERD: Final = """\
version = 2
root = "{state}/containerd"
state = "{run}/containerd"
[grpc]
address = "{run}/containerd.sock"
[ttrpc]
address = "{run}/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/{pause}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{programs}"
conf_dir = "{state}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


class Node:
    """One of the nodes, by its number; its processes end with the control plane."""

    def __init__(self, cluster: ControlPlane, number: int, state: Path) -> None:
        self.name, self.cluster, self._number, self._state = f"node-{number}", cluster, number, state
        self._run = Path("/run", f"vod-{self.name}")

    def start(self, images: Iterable[Path]) -> None:
        """Start the node with these images; returns when it is ready."""
        self._state.mkdir(parents=True)
        self._run.mkdir(exist_ok=True)
        write_cni(self._state / "cni", self._number)
        self._start_containerd()
        for archive in images:
            self._containers("images", "import", str(archive))
        self._make_groups()
        self._start_kubelet()
        self._wait_until_ready()

    def signal(self, container: str, name: str) -> None:
        """Send a signal to all processes of a container, as the kernel or an operator does."""
        self._containers("tasks", "kill", "--all", "--signal", name, container)

    def _start_containerd(self) -> None:
        values = {"state": self._state, "run": self._run, "pause": PAUSE, "programs": CNI_PROGRAMS}
        config = self._state / "containerd.toml"
        config.write_text(CONTAINERD.format(**values))
        self.cluster.start("containerd", "--config", str(config), log=f"containerd-{self._number}")
        give_up_at = time.monotonic() + START_SECONDS
        while self._ctr("version").returncode:
            assert time.monotonic() < give_up_at, f"containerd of {self.name} does not answer"
            time.sleep(0.2)

    def _containers(self, *arguments: str) -> None:
        done = self._ctr(*arguments)
        assert done.returncode == 0, f"ctr {' '.join(arguments)}: {done.stderr}"

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", str(self._run / "containerd.sock"), "--namespace", "k8s.io"]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )

    def _make_groups(self) -> None:
        for controller in GROUPS.iterdir():
            if (controller / "tasks").exists():  # of version 1, as here; version 2 has one tree for all
                _make_group(controller, self._group)
        if (GROUPS / "cgroup.controllers").exists():
            (GROUPS / self._group).mkdir(parents=True, exist_ok=True)

    @property
    def _group(self) -> str:
        return f"vod-tests/{self.name}"

    def _start_kubelet(self) -> None:
        config = self._state / "kubelet.json"
        config.write_text(json.dumps(self._configuration()))
        self.cluster.start(
            "kubelet",
            f"--config={config}",
            f"--kubeconfig={self.cluster.kubeconfig}",
            f"--hostname-override={self.name}",
            f"--node-ip={node_address(self._number)}",
            f"--root-dir={self._state / 'kubelet'}",
            f"--cert-dir={self._state / 'certificates'}",
            f"--node-labels=topology.kubernetes.io/zone=zone-{self._number}",
            log=f"kubelet-{self._number}",
        )

    def _configuration(self) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node_address(self._number),
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},  # the network is private to the test
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._group}",
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{self._run / 'containerd.sock'}",
            "evictionHard": dict.fromkeys(
                ("memory.available", "nodefs.available", "imagefs.available"), "2%"
            ),
            "failCgroupV1": False,
            "failSwapOn": False,
            "healthzPort": 0,
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": str(self._state / "logs"),
            "resolvConf": "",
            "volumePluginDir": str(self._state / "plugins"),
        }

    def _wait_until_ready(self) -> None:
        wanted = ("--for=condition=Ready", f"--timeout={START_SECONDS}s")
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            nodes = self.cluster.get("nodes")["items"]
            if self.name in {each["metadata"]["name"] for each in nodes}:
                break
            assert time.monotonic() < give_up_at, f"{self.name} does not register"
            time.sleep(0.5)
        self.cluster.kubectl("wait", f"node/{self.name}", *wanted)


def _make_group(controller: Path, name: str) -> None:
    """Make a control group in a version 1 tree; in that of cpuset children copy their parents' settings."""
    inherit = controller / "cgroup.clone_children"
    if controller.name == "cpuset":
        before = inherit.read_text()
        inherit.write_text("1")
        (controller / name).mkdir(parents=True, exist_ok=True)
        inherit.write_text(before)
    else:
        (controller / name).mkdir(parents=True, exist_ok=True)


def remove_groups() -> None:
    """Remove the control groups of all nodes, as soon as their processes have ended."""
    for top in (*GROUPS.glob("*/vod-tests"), GROUPS / "vod-tests"):
        for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
            _remove(folder)
        if top.is_dir():
            _remove(top)


def _remove(group: Path) -> None:
    give_up_at = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.1)
        else:
            return
