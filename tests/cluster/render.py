"""Renders the manifests as users do: kubectl kustomize, helm template."""

from __future__ import annotations

import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.places import CHART, K8S, find

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


def helm_text(*arguments: str) -> str:
    """Return what `helm template` makes of the chart. Raises CalledProcessError."""
    command = (find("helm") or "helm", "template", "vod", str(CHART), "--namespace", "vod")
    command += ("--kube-version", "1.34.4")
    return _output(*command, *arguments)


def load(text: str) -> list[Document]:
    """Return the documents in a text, without empty ones."""
    return [document for document in yaml.safe_load_all(text) if document]


def _output(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=RENDER_SECONDS)
    return done.stdout
