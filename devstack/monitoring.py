"""Prometheus as a part: Debian's, with the rules in deploy/monitoring (MONITORING=1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devstack.environment import has_monitoring, transcoder_count
from devstack.parts import SERVICES, File, Part, service_names
from devstack.programs import PROMETHEUS, REPOSITORY, MissingProgramError

if TYPE_CHECKING:
    from devstack.state import StackDir, State

PROMETHEUS_PART = "prometheus"
RULES = REPOSITORY / "deploy" / "monitoring" / "rules.yaml"
INTERVAL = "5s"
RETENTION = "2d"
APP = "vod-pipeline"  # the label `app` of everything that is scraped, as in deploy/k8s/components/monitoring


def monitoring_parts(directory: StackDir, state: State) -> list[Part]:
    """Define Prometheus if it was requested. Raises MissingProgramError without it."""
    if not has_monitoring(state):
        return []
    if not PROMETHEUS.exists():
        raise MissingProgramError("MONITORING=1 needs Prometheus: run `python -m devstack install`")
    home, port = directory.root / PROMETHEUS_PART, state.ports[PROMETHEUS_PART]
    part = Part(
        name=PROMETHEUS_PART,
        stage=SERVICES,
        argv=(
            str(PROMETHEUS),
            f"--config.file={home / 'prometheus.json'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--storage.tsdb.retention.time={RETENTION}",
            f"--web.listen-address=127.0.0.1:{port}",
        ),
        cwd=home,
        files=(
            File(home / "rules.yaml", RULES.read_text()),
            File(home / "prometheus.json", json.dumps(configuration(state), indent=2) + "\n"),
        ),
        answers=f"http://127.0.0.1:{port}/-/ready",
        ports=(PROMETHEUS_PART,),
    )
    return [part]


def configuration(state: State) -> dict[str, Any]:
    """Return Prometheus's configuration, which is YAML and may be JSON: one job for each service."""
    targets: dict[str, list[str]] = {}
    for name in service_names(transcoder_count(state)):
        targets.setdefault(name.partition("-")[0], []).append(f"127.0.0.1:{state.ports[name]}")
    return {
        "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": addresses, "labels": {"app": APP}}]}
            for job, addresses in targets.items()
        ],
    }
