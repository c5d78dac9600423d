"""Makes an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1) from a table of operations; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from services.ingest.models import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web
    from pydantic import BaseModel

    from services.ingest.models import Scope

    Json = dict[str, Any]

SCHEMAS = "#/components/schemas/{model}"
PATH_PARAMETER = re.compile(r"\{(\w+)\}")
PROBLEM_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Answer:
    """The answer of a successful operation; `model` None: no JSON body."""

    status: int
    description: str
    model: type[BaseModel] | None = None
    media_type: str = "application/json"


@dataclass(frozen=True)
class Operation:
    """One method of one path. `scopes` None: no key needed; `handler` None: shared.http serves it."""

    method: str
    path: str
    summary: str
    answer: Answer
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    scopes: frozenset[Scope] | None = None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_type: str = "application/json"
    problems: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Return the operationId, such as `get_api_videos_video_id`."""
        return "_".join([self.method.lower(), *re.findall(r"\w+", self.path)])


def describe(operations: Sequence[Operation]) -> Json:
    """Return the document."""
    references, definitions = models_json_schema(_models(operations), ref_template=SCHEMAS)
    schemas: Json = {model.__name__: reference for (model, _), reference in references.items()}
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Video ingest", "version": "1", "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
    }


DESCRIPTION = (
    "Accepts videos and reports their progress. Errors are problem details (RFC 9457) with a stable "
    "`reason`; every answer carries `X-Request-Id`. A key of scope `admin` may do everything, `service` may "
    "act for any user, `user` only for its own user; resources of other users answer 404."
)


def _models(operations: Sequence[Operation]) -> list[tuple[Any, Any]]:
    """List each model once: bodies in validation mode, answers in serialization mode."""
    found: dict[type[BaseModel], str] = {Problem: "serialization"}
    for operation in operations:
        if operation.answer.model:
            found.setdefault(operation.answer.model, "serialization")
        if operation.body:
            found[operation.body] = "validation"
    return list(found.items())


def _operation(operation: Operation, schemas: Json) -> Json:
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": _path_parameters(operation.path) + _query_parameters(operation.query),
        "responses": _responses(operation, schemas),
        "security": [] if operation.scopes is None else [{"apiKey": []}],
    }
    if operation.scopes:
        described["description"] = f"For keys of scope {', '.join(sorted(operation.scopes))}."
    if operation.body:
        content = {operation.body_type: {"schema": schemas[operation.body.__name__]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name)}
        for name in PATH_PARAMETER.findall(path)
    ]


def _path_schema(name: str) -> Json:
    return {"type": "string", "format": "uuid"} if name in ("video_id", "key_id") else {"type": "string"}


def _query_parameters(query: type[BaseModel] | None) -> list[Json]:
    described = query.model_json_schema() if query else {}
    properties, required = described.get("properties", {}), described.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: Json) -> Json:
    """Return the schema of a parameter that may be omitted but not null."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    return choices[0] if len(choices) == 1 else schema


def _responses(operation: Operation, schemas: Json) -> Json:
    answer = operation.answer
    good: Json = {"description": answer.description}
    if answer.model or answer.media_type != "application/json":
        schema = schemas[answer.model.__name__] if answer.model else {"type": "string"}
        good["content"] = {answer.media_type: {"schema": schema}}
    problem = {"content": {PROBLEM_TYPE: {"schema": schemas[Problem.__name__]}}}
    statuses = sorted({*operation.problems, *(() if operation.scopes is None else (401, 403))})
    bad = {str(status): {"description": PROBLEMS[status], **problem} for status in statuses}
    for status in RETRIABLE & bad.keys():
        bad[status]["headers"] = {"Retry-After": RETRY_AFTER}
    return {str(answer.status): good, **bad, "default": {"description": "A problem", **problem}}


PROBLEMS = {
    400: "The request is malformed, or names something that does not exist",
    401: "The API key is missing, unknown or revoked",
    403: "The API key does not permit this",
    404: "It does not exist, or belongs to another user",
    408: "Too little data arrived for too long",
    409: "The current state does not allow it",
    413: "The upload is too large",
    429: "The user has reached the limit of videos being processed",
    503: (
        "A dependency is unavailable, or too many uploads are in progress. After an upload, reason "
        "`upload_outcome_unknown`: the video may exist; ask `videoUrl` before you send it again"
    ),
    507: "The disk has no space left",
}
RETRIABLE = {"429", "503", "507"}
RETRY_AFTER = {"description": "Seconds to wait before retrying", "schema": {"type": "integer"}}
