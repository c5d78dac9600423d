"""A real control plane on this machine: etcd, API server, controller manager and scheduler."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.cluster.program_paths import cache, find
from tests.processes import free_port, stop

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

START_SECONDS: Final = 120
STOP_SECONDS: Final = 20
COMMAND_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Result:
    """What a command printed, and how it ended."""

    code: int
    output: str
    errors: str


class ControlPlane:
    """Starts and stops the processes, and runs kubectl and helm as an administrator."""

    def __init__(self, directory: Path, *, address: str = "127.0.0.1", options: tuple[str, ...] = ()) -> None:
        self.directory, self.address, self.port = directory, address, free_port()
        self._options = options
        self.token = secrets.token_hex(16)
        self._stack = ExitStack()
        self._started = dict[str, subprocess.Popen[bytes]]()

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def authority(self) -> Path:
        return self.directory / "certificates" / "apiserver.crt"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def kubectl(self, *arguments: str, given: str | None = None, fails: bool = False) -> Result:
        """Run kubectl; raises AssertionError with its messages unless it ends as expected."""
        return self.run(find("kubectl") or "kubectl", *arguments, given=given, fails=fails)

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get` finds, parsed."""
        return json.loads(self.kubectl("get", *arguments, "--output", "json").output)

    def run(self, *command: str, given: str | None = None, fails: bool = False) -> Result:
        """Run a program that finds this cluster."""
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
            env=self.environment,
        )
        assert bool(done.returncode) == fails, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return Result(done.returncode, done.stdout, done.stderr)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which kubectl and helm find this cluster and each other."""
        path = f"{cache() / 'bin'}:{os.environ['PATH']}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path, "HOME": str(self.directory)}

    def _start(self) -> None:
        self._write_files()
        etcd = f"http://127.0.0.1:{self._start_etcd()}"
        key = self.directory / "accounts.key"
        self.start(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.port}",
            f"--cert-dir={self.authority.parent}",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--service-account-issuer={self.url}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            *self._options,
        )
        self._wait_until_ready()
        if find("kube-controller-manager") and find("kube-scheduler"):
            self._start_controllers(key)

    def _start_controllers(self, key: Path) -> None:
        client = (f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1")
        self.start(
            "kube-controller-manager",
            *client,
            f"--secure-port={free_port()}",
            f"--service-account-private-key-file={key}",
            "--node-monitor-grace-period=120s",
        )
        self.start("kube-scheduler", *client, f"--secure-port={free_port()}")

    def start(self, name: str, *arguments: str, log: str = "", **given: str) -> None:
        """Start a program that ends with the control plane; its log is in the directory."""
        output = self._stack.enter_context((self.directory / f"{log or name}.log").open("wb"))
        process = subprocess.Popen(
            [find(name) or name, *arguments],
            stdout=output,
            stderr=output,
            cwd=self.directory,
            start_new_session=True,
            env=os.environ | given,
        )
        self._stack.callback(stop, process, STOP_SECONDS)
        self._started[log or name] = process

    def check(self) -> None:
        """Raise AssertionError if a program has ended, with the end of its log."""
        for name, process in self._started.items():
            if process.poll() is not None:
                log = (self.directory / f"{name}.log").read_text()
                raise AssertionError(f"{name} has ended: {log[-3000:]}")

    def _start_etcd(self) -> int:
        client, peer = free_port(), free_port()
        self.start(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        return client

    def _write_files(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.authority.parent.mkdir()
        key = str(self.directory / "accounts.key")
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (self.directory / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        self.kubeconfig.write_text(self.client_configuration(self.token))

    def client_configuration(self, token: str) -> str:
        """Return a kubeconfig for a token."""
        cluster = {"server": self.url, "certificate-authority": str(self.authority)}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "tests", "cluster": cluster}],
                "users": [{"name": "admin", "user": {"token": token}}],
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
                "current-context": "tests",
            }
        )

    def _wait_until_ready(self) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        command = [find("kubectl") or "kubectl", "get", "--raw", "/readyz"]
        while subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode:
            if time.monotonic() > give_up_at:
                log = (self.directory / "kube-apiserver.log").read_text()
                raise AssertionError(f"the API server is not ready in {START_SECONDS} s: {log[-3000:]}")
            time.sleep(0.5)
