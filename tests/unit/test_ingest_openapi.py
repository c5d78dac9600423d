from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from services.ingest.http.resources import OPENAPI
from services.ingest.http.routes import OPERATIONS
from services.ingest.main import create_app
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web


@pytest.fixture(scope="module")
def app() -> web.Application:
    values: dict[str, Any] = {"database_url": "postgresql://x", "rabbitmq_url": "amqp://x"}
    return create_app(Settings(**values, work_dir=Path("/nowhere")))


@pytest.fixture(scope="module")
def document(app: web.Application) -> Any:
    return json.loads(app[OPENAPI])


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict):
        yield value
    for child in children:
        yield from nodes(child)


def test_every_route_is_described(app: web.Application, document: Any) -> None:
    routes = {(route.resource.canonical, route.method.lower()) for route in app.router.routes()}
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert {route for route in routes if route[1] != "head"} == described


def test_document_has_the_version_and_no_dangling_reference(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    schemas = document["components"]["schemas"]
    references = [node["$ref"] for node in nodes(document) if "$ref" in node]
    assert references
    assert {reference.rsplit("/", 1)[1] for reference in references} == set(schemas)


def test_schemas_are_valid(document: Any) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_operations_have_unique_names() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert "post_api_videos_upload" in names


def test_parameters_are_described(document: Any) -> None:
    operation = document["paths"]["/api/videos"]["get"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {
        "userId",
        "status",
        "limit",
        "cursor",
    }
    for path, item in document["paths"].items():
        for described in item.values():
            names = {each["name"] for each in described["parameters"] if each["in"] == "path"}
            assert names == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_access_is_described(document: Any) -> None:
    assert document["paths"]["/api/keys"]["post"]["security"] == [{"apiKey": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert {"401", "403"} <= set(document["paths"]["/api/presets"]["get"]["responses"])


def test_upload_is_described_as_a_form(document: Any) -> None:
    body = document["paths"]["/api/videos/upload"]["post"]["requestBody"]["content"]
    assert list(body) == ["multipart/form-data"]
    form = document["components"]["schemas"]["UploadForm"]
    fields = {"title", "qualities", "userId", "visibility", "delivery", "storage"}
    assert set(form["properties"]) == {*fields, "file"}
    assert form["required"] == ["file"]
