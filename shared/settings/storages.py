"""Named storages besides the default one, from the TOML or JSON file in STORAGES.

[archive]
storage_type = "s3"
s3_endpoint_url = "https://s3.example.org"
s3_bucket = "archive"
s3_access_key_id = {env = "ARCHIVE_KEY_ID"}
s3_secret_access_key = {file = "/run/secrets/archive"}
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_settings import NoDecode

from shared.names import DEFAULT_STORAGE
from shared.settings.storage_settings import StorageSettings

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
SECRETS: Final = ("s3_secret_access_key", "s3_session_token")


class NamedStorage(StorageSettings):
    """A storage besides the default one.

    `directory` is the root of a local one. Users may choose it if it is `choosable`; private videos whose own
    storage is public go to the first `private` one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    directory: Path | None = None
    choosable: bool = False
    private: bool = False

    @model_validator(mode="after")
    def _check_kind(self) -> NamedStorage:
        if self.storage_type == "local" and (self.directory is None or not self.directory.is_absolute()):
            raise ValueError("a local storage needs directory, an absolute path")
        if self.storage_type == "s3" and self.directory is not None:
            raise ValueError("directory is for local storages only")
        if self.private and self.is_public:
            raise ValueError("private and s3_public_url contradict each other")
        return self

    @property
    def local_root(self) -> Path:
        """The root directory of a local storage."""
        assert self.directory is not None  # noqa: S101 - checked above
        return self.directory

    @property
    def takes_private(self) -> bool:
        return self.private

    @property
    def is_choosable(self) -> bool:
        return self.choosable

    def __str__(self) -> str:
        return self.name


def read_storages(given: object) -> object:
    """Return the storages in a file. Raises ValueError with a sentence for each error."""
    if not isinstance(given, str | Path):
        return given
    tables = _parse(Path(given))
    faults: list[str] = []
    found = [each for name, table in tables.items() if (each := _read(name, table, faults))]
    faults += _same_places(found)
    if faults:
        raise ValueError("; ".join(faults))
    return tuple(found)


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        tables = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(
            f"{path} is not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}"
        ) from None
    if not isinstance(tables, dict):
        raise ValueError(f"{path} must have a table for each storage")  # noqa: TRY004 - pydantic's kind
    return tables


def _read(name: str, table: object, faults: list[str]) -> NamedStorage | None:
    """Return a storage; None if it is invalid, after adding its errors."""
    if not NAME.fullmatch(name) or name == DEFAULT_STORAGE:
        faults.append(
            f"{name[:40]!r} cannot be the name of a storage: use up to 32 of a-z 0-9 _ -, not default"
        )
        return None
    if not isinstance(table, dict) or "name" in table:
        faults.append(f"{name}: must be a table of settings without a field `name`")
        return None
    try:
        return NamedStorage(
            **{field: _value(field, value) for field, value in table.items()} | {"name": name}
        )
    except ValidationError as error:
        faults += [
            f"{name}: {_told(fault)}" for fault in error.errors(include_url=False, include_input=False)
        ]
    except ValueError as error:
        faults.append(f"{name}: {error}")
    return None


def _value(field: str, value: object) -> object:
    """Return a value, resolving references. Raises ValueError that names the field but no secret."""
    if not isinstance(value, dict):
        if field in SECRETS:
            raise ValueError(f'{field} must not be in the file: use {{env = "NAME"}} or {{file = "/path"}}')
        return value
    match value:
        case {"env": str(variable), **rest} if not rest:
            if not (found := os.environ.get(variable)):
                raise ValueError(f"{field}: the environment variable {variable} is not set")
            return found
        case {"file": str(path), **rest} if not rest:
            try:
                return Path(path).read_text().strip()
            except (OSError, ValueError) as error:
                raise ValueError(f"{field}: {path} cannot be read: {error}") from error
    raise ValueError(f'{field}: write a value, {{env = "NAME"}} or {{file = "/path"}}')


def _told(fault: Any) -> str:
    field = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = "unknown setting"
    return f"{field}: {message}" if field else message


def place_of(settings: StorageSettings, directory: Path) -> tuple[str, ...]:
    """Return what distinguishes a storage from others before it is contacted."""
    if settings.storage_type == "local":
        return ("local", str(directory))
    return ("s3", settings.s3_endpoint_url.rstrip("/"), settings.s3_bucket)


def _same_places(found: list[NamedStorage]) -> list[str]:
    seen: dict[tuple[str, ...], str] = {}
    faults = []
    for each in found:
        first = seen.setdefault(place_of(each, each.directory or Path()), each.name)
        if first != each.name:
            faults.append(f"{first} and {each.name} are the same storage")
    return faults


Storages = Annotated[tuple[NamedStorage, ...], NoDecode, BeforeValidator(read_storages)]
