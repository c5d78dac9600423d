"""Builds what the cluster tests run, once, into a cache outside the checkout (`make test-cluster`).

Sources come from the Go module proxy, with the versions and hashes in modules/*/go.mod and go.sum; etcd comes
from Debian.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.cluster.program_paths import MODULES, cache, find

if TYPE_CHECKING:
    from collections.abc import Sequence

BUILD_SECONDS: Final = 3600
KUBERNETES: Final = "1.34.4"  # as in modules/kubernetes/go.mod
HELM_CHART_UTIL: Final = "helm.sh/helm/v3/pkg/chartutil"


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module that is used as it is: its version, and the hash of all its files."""

    name: str
    total: str

    def directory(self) -> Path:
        """Return where it is, after fetching it if necessary. Raises OSError when its hash is another one."""
        command = ["go", "mod", "download", "-json", self.name]
        cache().mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            command, cwd=cache(), check=True, capture_output=True, text=True, timeout=BUILD_SECONDS
        )
        found = json.loads(done.stdout)
        if found["Sum"] != self.total:
            raise OSError(f"{self.name} has the hash {found['Sum']}, not {self.total}")
        return Path(found["Dir"])


@dataclass(frozen=True, slots=True)
class Program:
    """A command of a Go module, or of one of modules/; `stamps` are the variables that say its version."""

    name: str
    module: str | Module
    package: str
    stamps: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return cache() / "bin" / self.name

    @property
    def digest(self) -> str:
        """Return a hash of what the program is built from."""
        if isinstance(self.module, Module):
            texts = [self.module.total.encode()]
        else:
            texts = [path.read_bytes() for path in sorted((MODULES / self.module).iterdir())]
        return hashlib.sha256(b"".join([*texts, repr(self.stamps).encode()])).hexdigest()

    def directory(self) -> Path:
        """Return where to build it."""
        return self.module.directory() if isinstance(self.module, Module) else MODULES / self.module

    def is_built(self) -> bool:
        """Return whether the program of this version is in the cache."""
        stamp = self.path.with_suffix(".sha256")
        return self.path.exists() and stamp.exists() and stamp.read_text() == self.digest


def _kubernetes(name: str) -> Program:
    version = "k8s.io/component-base/version"
    stamps = (f"{version}.gitVersion=v{KUBERNETES}", f"{version}.gitMajor=1", f"{version}.gitMinor=34")
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", stamps)


KEDA: Final = Module("github.com/kedacore/keda/v2@v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=")
PROMETHEUS_OPERATOR: Final = Module(
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
)
HELM_STAMPS: Final = (f"{HELM_CHART_UTIL}.k8sVersionMajor=1", f"{HELM_CHART_UTIL}.k8sVersionMinor=34")
CONTROL_PLANE: Final = tuple(
    _kubernetes(name) for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
)
CHECKS: Final = (
    Program("helm", "helm", "helm.sh/helm/v3/cmd/helm", HELM_STAMPS),
    Program("kube-score", "kube-score", "github.com/zegl/kube-score/cmd/kube-score"),
    Program("check-dashboards", "grafana", "."),
    Program(
        "prometheus-operator",
        "prometheus-operator",
        "github.com/prometheus-operator/prometheus-operator/cmd/operator",
    ),
)
NODES: Final = (
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Program("metrics-server", "kubernetes", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    Program("keda-operator", KEDA, "./cmd/operator"),
    Program("keda-adapter", KEDA, "./cmd/adapter"),
)


@dataclass(frozen=True, slots=True)
class Definitions:
    """Custom resource definitions in a Go module."""

    module: Module
    pattern: str

    def files(self) -> list[Path]:
        """Return the files. Raises OSError when the module is not the one known here."""
        return sorted(self.module.directory().glob(self.pattern))


KEDA_DEFINITIONS: Final = Definitions(KEDA, "config/crd/bases/*.yaml")
DEFINITIONS: Final = (
    KEDA_DEFINITIONS,
    Definitions(
        Module("sigs.k8s.io/gateway-api@v1.6.3", "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc="),
        "config/crd/standard/gateway.networking.k8s.io_[ghl]*.yaml",
    ),
    Definitions(
        Module(
            "github.com/external-secrets/external-secrets@v1.3.2",
            "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
        ),
        "config/crds/bases/external-secrets.io_externalsecrets.yaml",
    ),
    Definitions(PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/*.yaml"),
)


def build(program: Program) -> None:
    """Build a program into the cache. Raises CalledProcessError."""
    flags = "-s -w " + " ".join(f"-X {stamp}" for stamp in program.stamps)
    program.path.parent.mkdir(parents=True, exist_ok=True)
    draft = program.path.with_suffix(".new")
    subprocess.run(
        ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(draft), program.package],
        cwd=program.directory(),
        check=True,
        timeout=BUILD_SECONDS,
        env={**os.environ, "CGO_ENABLED": "0"},
    )
    draft.replace(program.path)
    program.path.with_suffix(".sha256").write_text(program.digest)


def obstacle(*names: str) -> str | None:
    """Return why these programs cannot run here; None if they can."""
    missing = [name for name in names if not find(name)]
    return (
        f"{', '.join(missing)}: not built yet, or not available here (`make test-cluster`)"
        if missing
        else None
    )


def main(names: Sequence[str] = ()) -> int:
    """Build what is missing, or say why that is impossible here: the tests are skipped then.

    `nodes` among the names: also what real nodes need.
    """
    wanted = [*CONTROL_PLANE, *CHECKS, *(NODES if "nodes" in names else ())]
    missing = [each for each in wanted if not each.is_built()]
    if missing and not shutil.which("go"):
        print("skipped: Go 1.26 or newer is needed to build Kubernetes")
        return 0
    for program in missing:
        started = time.monotonic()
        build(program)
        print(f"built {program.name} in {time.monotonic() - started:.0f} s", flush=True)
    if not find("etcd"):
        if not shutil.which("apt-get"):
            print("skipped: etcd is missing; on Debian: apt-get install etcd-server")
            return 0
        _install_etcd()
    return 0


def _install_etcd() -> None:
    """Extract only the program from Debian's package, which would start a server."""
    folder = cache() / "etcd"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "-q", "download", "etcd-server"], cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("etcd-server_*.deb")
    subprocess.run(["dpkg-deb", "--extract", str(package), str(folder)], check=True)
    shutil.copy(folder / "usr/bin/etcd", cache() / "bin" / "etcd")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
