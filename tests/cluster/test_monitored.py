"""The Prometheus operator makes a configuration of the monitoring component."""

from __future__ import annotations

import base64
import gzip
import json
import re

import pytest
import yaml

from tests.cluster.observe import NAMESPACE, SERVING
from tests.cluster.program_paths import K8S, REPOSITORY
from tests.cluster.programs import obstacle
from tests.cluster.render import kustomize, own_overlay
from tests.processes import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RULES = REPOSITORY / "deploy" / "monitoring" / "rules.yaml"
OVERLAY = "components: [../../components/monitoring]\n"
PROMETHEUS = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "Prometheus",
    "metadata": {"name": "seeing-all", "namespace": "vod"},
    "spec": {
        "replicas": 0,  # only its configuration is of interest
        "podMonitorSelector": {},
        "podMonitorNamespaceSelector": {},
        "ruleSelector": {},
        "ruleNamespaceSelector": {},
    },
}
FULL = K8S / "overlays" / "full"
ACTIONS = {"replace", "keep", "drop", "hashmod"}


@pytest.fixture(scope="module")
def operator(api, tmp_path_factory):
    """The API server with the operator, the component, and a Prometheus that selects everything."""
    if reason := obstacle("prometheus-operator"):
        pytest.skip(reason)
    component = str(own_overlay(tmp_path_factory.mktemp("monitoring"), OVERLAY))
    api.start(
        "prometheus-operator",
        f"--web.listen-address=127.0.0.1:{free_port()}",
        KUBECONFIG=str(api.kubeconfig),
    )
    api.kubectl("apply", "--server-side", "--validate=strict", "--kustomize", component)
    apply(api, PROMETHEUS)
    yield api
    api.kubectl("delete", "prometheus", "seeing-all", *NAMESPACE)
    api.kubectl("delete", "--kustomize", component)


def apply(cluster, document):
    given = json.dumps(document)
    cluster.kubectl("apply", "--server-side", "--validate=strict", "--filename", "-", given=given)


def scrape_configs(cluster):
    """Return the scrape configurations that the operator has written, by the name of the job."""
    secrets = cluster.get("secrets", "--field-selector", "metadata.name=prometheus-seeing-all", *NAMESPACE)
    for secret in secrets["items"]:
        text = gzip.decompress(base64.b64decode(secret["data"]["prometheus.yaml.gz"]))
        return {each["job_name"]: each for each in yaml.safe_load(text)["scrape_configs"]}
    return {}


def rule_groups(cluster):
    """Return the groups of rules that the operator has written."""
    chosen = ("--selector", "prometheus-name=seeing-all")
    files = [each.get("data", {}) for each in cluster.get("configmaps", *chosen, *NAMESPACE)["items"]]
    return [group for each in files for text in each.values() for group in yaml.safe_load(text)["groups"]]


def targets(workload, relabelings):
    """Yield a container's port of a pod, and the labels under which it is scraped; None if it is not."""
    template = workload["spec"]["template"]
    for container in template["spec"]["containers"]:
        for port in container.get("ports", []):
            found = {
                "__meta_kubernetes_pod_phase": "Running",
                "__meta_kubernetes_pod_container_port_name": port["name"],
            }
            for name, value in template["metadata"]["labels"].items():
                found[f"__meta_kubernetes_pod_label_{re.sub('[^a-z]', '_', name)}"] = value
                found[f"__meta_kubernetes_pod_labelpresent_{re.sub('[^a-z]', '_', name)}"] = "true"
            yield port["name"], relabelled(found, relabelings)


def relabelled(labels, relabelings):
    """Return labels as Prometheus changes them; None if it drops the target."""
    for each in relabelings:
        sources, action = each.get("source_labels", []), each.get("action", "replace")
        if "__tmp_hash" in sources:  # how several Prometheus share targets
            continue
        found = re.fullmatch(each.get("regex", "(.*)"), ";".join(labels.get(name, "") for name in sources))
        if action != "replace" and bool(found) != (action == "keep"):
            return None
        if action == "replace" and found:
            new = re.sub(r"\$\{?(\d)\}?", r"\\\1", each.get("replacement", "$1"))
            labels = {**labels, each["target_label"]: found.expand(new)}
    return labels


def test_operator_scrapes_every_service_under_its_name(operator, until):
    found = until(lambda: scrape_configs(operator).get("podMonitor/vod/vod-pipeline/0"), "the scrape job")
    assert (found["metrics_path"], found["scrape_interval"]) == ("/metrics", "15s")
    assert {each.get("action", "replace") for each in found["relabel_configs"]} <= ACTIONS
    names = set()
    for workload in kustomize(FULL):
        if workload["kind"] in ("Deployment", "Job"):
            for port, labels in targets(workload, found["relabel_configs"]):
                assert (labels is not None) == (port == "http")
                if labels:
                    names.add((labels["app"], labels["job"]))
    variants = {"transcoder-plan", "transcoder-cpu"}
    assert names == {("vod-pipeline", name) for name in {*SERVING, "transcoder", *variants}}


def test_operator_hands_every_rule_to_prometheus(operator, until):
    written = until(lambda: rule_groups(operator), "the rules")
    assert written == yaml.safe_load(RULES.read_text())["groups"]


def test_operator_refuses_a_rule_that_prometheus_cannot_parse(operator, until):
    wrong = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "wrong", "namespace": "vod"},
        "spec": {"groups": [{"name": "wrong", "rules": [{"record": "vod:wrong", "expr": "sum(up"}]}]},
    }
    apply(operator, wrong)
    field = "reason=InvalidConfiguration"
    refused = until(
        lambda: operator.get("events", "--field-selector", field, *NAMESPACE)["items"], "the refusal"
    )
    assert "PrometheusRule wrong was rejected" in refused[0]["message"]
    operator.kubectl("delete", "prometheusrule", "wrong", *NAMESPACE)
