"""Dashboards, rules and runbook: metrics exist, alerts have entries, and the rules do what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import REGISTRY

from shared.telemetry import metrics
from tools.dashboards import MONITORING, PANELS, RULES, documents

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[2]
RUNBOOK = REPO / "docs" / "runbook.md"
TESTS = MONITORING / "rules.test.yaml"
COMPONENT = REPO / "deploy" / "k8s" / "components" / "monitoring"
PROMTOOL = shutil.which("promtool")
OF_PROMETHEUS = {"up": {"app", "job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
OF_TARGETS = {"app", "job", "instance", "le"}
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
    "summary": ("",),
}
NAME = re.compile(r"\b(?:vod_\w+|vod:\w+(?::\w+)*|up|ALERTS)\b(?:\{(?P<labels>[^}]*)\})?")
LABEL = re.compile(r'(\w+)(?:=~|!~|!=|=)"')
GROUPING = re.compile(r"\b(?:by|without|on) ?\(([^)]*)\)")
SELECTOR = re.compile(r"\{[^}]*\}|\"[^\"]*\"")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDS = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (MONITORING / "dashboards").glob("*.json")}


def samples() -> dict[str, set[str]]:
    """Return the labels of every series that a service can report, by its name."""
    found = {}
    for metric in vars(metrics).values():
        for family in metric.collect() if hasattr(metric, "_labelnames") else ():
            for suffix in SUFFIXES[family.type]:
                found[family.name + suffix] = {*metric._labelnames}
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Yield where a query is, and the query."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            yield from ((f"{name}: {panel['title']}", target["expr"]) for target in panel["targets"])


QUERIES = tuple(queries())
KNOWN = samples() | OF_PROMETHEUS


def names_in(query: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each series in a query, and the labels that select from it."""
    for match in NAME.finditer(query):
        yield match[0].partition("{")[0], set(LABEL.findall(match["labels"] or ""))


@pytest.mark.parametrize(("place", "query"), QUERIES, ids=[place for place, _ in QUERIES])
def test_every_series_of_a_query_exists_with_its_labels(place: str, query: str) -> None:
    found = list(names_in(query))
    assert found, place
    for name, labels in found:
        assert name in KNOWN or name in RECORDS, name
        if name in KNOWN:
            assert labels <= KNOWN[name] | OF_TARGETS, name


@pytest.mark.parametrize(("place", "query"), QUERIES, ids=[place for place, _ in QUERIES])
def test_queries_group_by_labels_that_their_series_have(place: str, query: str) -> None:
    groups = grouped_by(query)
    there = OF_TARGETS.union(*(labels_of(name) for name, _ in names_in(query)))
    assert groups <= there, place


def labels_of(name: str) -> set[str]:
    """Return the labels of a series, or those that a recording rule keeps."""
    return KNOWN[name] if name in KNOWN else grouped_by(RECORDS[name])


def grouped_by(query: str) -> set[str]:
    """Return every label that a query groups by."""
    return {
        label.strip() for labels in GROUPING.findall(SELECTOR.sub("", query)) for label in labels.split(",")
    }


def test_names_of_missing_series_are_found() -> None:
    found = dict(names_in('sum by (le) (rate(vod_nothing_bucket{job="a",route=~".*"}[5m])) / vod:none:sum'))
    assert found == {"vod_nothing_bucket": {"job", "route"}, "vod:none:sum": set()}
    assert not found.keys() & KNOWN.keys()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_legends_name_labels_that_the_query_keeps(name: str) -> None:
    for panel in DASHBOARDS[name]["panels"]:
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = grouped_by(target["expr"]).union(
                *(labels_of(each) for each, _ in names_in(target["expr"]) if each in RECORDS)
            )
            assert wanted <= kept, panel["title"]


def test_every_record_is_used() -> None:
    used = {name for _, query in QUERIES for name, _ in names_in(query)}
    assert set(RECORDS) <= used


def test_metrics_are_named_as_prometheus_expects() -> None:
    for name, labels in samples().items():
        assert re.fullmatch(r"vod_[a-z0-9_]+", name)
        assert not labels & {"job", "instance", "app", "video_id", "user_id", "path"}


def test_every_metric_is_explained_in_operations() -> None:
    text = (REPO / "docs" / "operations.md").read_text()
    missing = {
        name for name in samples() if not name.endswith(("_bucket", "_count", "_sum")) and name not in text
    }
    assert missing == set()


def test_every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert() -> None:
    entries = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(entries) == sorted(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]


def test_every_alert_has_a_test_of_when_it_fires_and_when_not() -> None:
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        alerts = [bool(each["exp_alerts"]) for each in test["alert_rule_test"]]
        assert alerts == [False, True], test["name"]
    assert [test["name"] for test in yaml.safe_load(TESTS.read_text())["tests"]] == list(ALERTS)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: `python -m devstack install`")
@pytest.mark.parametrize(
    "arguments", [("check", "rules", RULES), ("test", "rules", TESTS)], ids=["check", "test"]
)
def test_promtool_accepts_the_rules(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([PROMTOOL or "", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: `python -m devstack install`")
def test_promtool_can_parse_the_queries_of_the_dashboards(tmp_path: Path) -> None:
    found = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, (_, query) in enumerate(QUERIES)
    ]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}))
    command = [PROMTOOL or "", "check", "rules", str(tmp_path / "panels.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_files_are_current() -> None:
    for path, text in documents().items():
        assert path.read_text() == text, f"{path.name} is old: run `make dashboards`"
    assert set(DASHBOARDS) == set(yaml.safe_load(PANELS.read_text()))


def test_the_resource_of_the_operator_has_the_rules() -> None:
    resource = yaml.safe_load((MONITORING / "prometheus-rule.yaml").read_text())
    assert (resource["kind"], resource["spec"]) == ("PrometheusRule", yaml.safe_load(RULES.read_text()))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_neither_overlap_nor_leave_the_grid(name: str) -> None:
    dashboard, taken = DASHBOARDS[name], set()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells


def test_the_component_brings_every_dashboard_and_scrapes_every_service() -> None:
    kustomization = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())
    [generated] = kustomization["configMapGenerator"]
    assert sorted(generated["files"]) == sorted(f"dashboards/{name}.json" for name in DASHBOARDS)
    monitor = yaml.safe_load((COMPONENT / "pod-monitor.yaml").read_text())["spec"]
    [endpoint] = monitor["podMetricsEndpoints"]
    scraped = set()
    for path in (REPO / "deploy" / "k8s" / "base").rglob("*.yaml"):
        for document in filter(None, yaml.safe_load_all(path.read_text())):
            if document.get("kind") == "Deployment":
                template = document["spec"]["template"]
                assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
                ports = [port["name"] for each in template["spec"]["containers"] for port in each["ports"]]
                assert ports.count(endpoint["port"]) == 1
                scraped.add(template["metadata"]["labels"][monitor["jobLabel"]])
    assert scraped >= {"ingest", "transcoder", "uploader", "streamer"}


def test_the_registry_reports_what_the_module_declares() -> None:
    declared = {
        family.name
        for metric in vars(metrics).values()
        if hasattr(metric, "_labelnames")
        for family in metric.collect()
    }
    assert declared <= {family.name for family in REGISTRY.collect()}
