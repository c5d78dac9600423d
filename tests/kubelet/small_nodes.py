"""Fills in what the documentation leaves to an operator, for two small nodes on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.kubelet.network import for_pods

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INGEST, STREAMER = "10.96.0.80", "10.96.0.81"  # addresses of Services, which the tests know in advance
SMALL: Final = {"cpu": "20m", "memory": "64Mi", "ephemeral-storage": "64Mi"}
CHUNK_SECONDS: Final = "10"


def settings(servers: dict[str, str]) -> dict[str, str]:
    """Return the values that the template requires, and chunks that a slow machine encodes in time."""
    return {
        "S3_PROVIDER": "generic",
        "S3_ENDPOINT_URL": for_pods(servers["S3_ENDPOINT_URL"]),
        "S3_REGION": servers["S3_REGION"],
        "S3_BUCKET": servers["S3_BUCKET"],
        "PUBLIC_STREAM_URL": f"http://{STREAMER}:8081",
        "CHUNK_SECONDS": CHUNK_SECONDS,
        "HLS_SEGMENT_SECONDS": "5",
    }


def secret(servers: dict[str, str]) -> dict[str, str]:
    """Return what the Secret of the documentation holds."""
    urls = {name: for_pods(servers[name]) for name in ("DATABASE_URL", "RABBITMQ_URL")}
    return urls | {name: servers[name] for name in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")}


def filling(servers: dict[str, str]) -> Callable[[Path], None]:
    """Return a function that fills in a template of the documentation."""

    def fill_in(path: Path) -> None:
        if path.name == "secret.yaml":
            _change(path, {"stringData": secret(servers)})
        elif path.name == "mine.yaml":
            _change(path, {"config": settings(servers), **_SMALL_CHART})
        else:
            literals = [f"{name}={value}" for name, value in settings(servers).items()]
            _fill_in_kustomization(path / "kustomization.yaml", literals)

    return fill_in


def _change(path: Path, values: dict[str, Any]) -> None:
    document = yaml.safe_load(path.read_text())
    for name, value in values.items():
        document[name] = document.get(name, {}) | value if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(document))


_SMALL_CHART: Final = {
    name: {"resources": {"requests": SMALL}} for name in ("ingest", "streamer", "edge", "uploader")
} | {"transcoder": {"resources": {"requests": SMALL}, "replicas": 1}}


def _fill_in_kustomization(path: Path, literals: list[str]) -> None:
    form = yaml.safe_load(path.read_text())
    form["components"] = ["../../components/keda"]
    form["configMapGenerator"][0]["literals"] = literals
    form["patches"] = [
        *[_patch("Deployment", name, _requests(0)) for name in ("ingest", "transcoder", "uploader")],
        _patch("Deployment", "streamer", _requests(0) + _requests(1)),
        _patch("Service", "ingest", [_set("/spec/clusterIP", INGEST)]),
        _patch("Service", "streamer", [_set("/spec/clusterIP", STREAMER)]),
        *[
            _patch("HorizontalPodAutoscaler", name, [_set("/spec/maxReplicas", 3)])
            for name in ("ingest", "streamer")
        ],
        _patch("ScaledObject", "transcoder", [_set(f"/spec/{key}", value) for key, value in SCALED.items()]),
    ]
    path.write_text(yaml.safe_dump(form))


# Two nodes, and a shorter delay before scaling down than users want.
_BEHAVIOUR: Final = "advanced/horizontalPodAutoscalerConfig/behavior"
SCALED: Final = {
    "maxReplicaCount": 2,
    "pollingInterval": 5,
    "cooldownPeriod": 30,
    f"{_BEHAVIOUR}/scaleDown/stabilizationWindowSeconds": 30,
}


def _requests(container: int) -> list[dict[str, Any]]:
    return [_set(f"/spec/template/spec/containers/{container}/resources/requests", SMALL)]


def _set(path: str, value: object) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _patch(kind: str, name: str, operations: list[dict[str, Any]]) -> dict[str, Any]:
    return {"target": {"kind": kind, "name": name}, "patch": yaml.safe_dump(operations)}
