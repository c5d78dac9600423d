"""Renders the manifests as users do: kubectl kustomize, helm template."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.program_paths import CHART, DEPLOY, K8S, find

if TYPE_CHECKING:
    from pathlib import Path

Document = dict[str, Any]

RENDER_SECONDS = 60


@cache
def kustomize_text(directory: Path = K8S) -> str:
    """Return what `kubectl kustomize` makes of a directory. Raises CalledProcessError."""
    return _output(find("kubectl") or "kubectl", "kustomize", str(directory))


def kustomize(directory: Path = K8S) -> list[Document]:
    """Return the documents of a directory. Raises CalledProcessError."""
    return load(kustomize_text(directory))


def own_overlay(folder: Path, text: str) -> Path:
    """Return an overlay with this text, beside those of a copy of the manifests."""
    shutil.copytree(DEPLOY, folder / "deploy", symlinks=True)
    overlay = folder / "deploy" / "k8s" / "overlays" / "own"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(text)
    return overlay


def helm_text(*arguments: str, chart: Path = CHART) -> str:
    """Return what `helm template` makes of the chart. Raises CalledProcessError."""
    command = (find("helm") or "helm", "template", "vod", str(chart), "--namespace", "vod")
    command += ("--kube-version", "1.34.4")
    return _output(*command, *arguments)


def load(text: str) -> list[Document]:
    """Return the documents in a text, without empty ones."""
    return [document for document in yaml.safe_load_all(text) if document]


def _output(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=RENDER_SECONDS)
    return done.stdout
