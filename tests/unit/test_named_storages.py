"""The file that STORAGES names."""

from __future__ import annotations

import json

import pytest

from shared.errors import ConfigurationError
from shared.settings import Settings, load_settings

NEEDED = {
    "DATABASE_URL": "postgresql://vod:secret@db/vod",
    "RABBITMQ_URL": "amqp://vod:secret@mq/",
    "WORK_DIR": "/work",
}
S3 = 'storage_type = "s3"\ns3_endpoint_url = "https://s3.example"\ns3_bucket = "%s"\n'


@pytest.fixture
def load(monkeypatch, tmp_path):
    def load_with(text: str, suffix: str = "toml", **environment: str):
        for name in ("STORAGE_TYPE", "S3_ENDPOINT_URL", "S3_BUCKET", "S3_PUBLIC_URL", "DEFAULT_VISIBILITY"):
            monkeypatch.delenv(name, raising=False)
        path = tmp_path / f"storages.{suffix}"
        path.write_text(text)
        for name, value in (NEEDED | {"STORAGES": str(path)} | environment).items():
            monkeypatch.setenv(name, value)
        return load_settings(Settings, 8080)

    return load_with


def test_storages_are_read_with_secrets_from_the_environment_and_from_files(load, tmp_path) -> None:
    (tmp_path / "secret").write_text("abc\n")
    text = f"""
    [archive]
    {S3 % "archive"}
    s3_provider = "garage"
    s3_access_key_id = {{env = "ARCHIVE_ID"}}
    s3_secret_access_key = {{file = "{tmp_path}/secret"}}
    [shelf]
    directory = "/shelf"
    choosable = true
    """
    settings = load(text, ARCHIVE_ID="me")
    default, archive, shelf = settings.by_storage.values()
    assert default is settings
    assert (archive.s3_access_key_id, archive.s3_secret_access_key.get_secret_value()) == ("me", "abc")
    assert (archive.s3_region, archive.s3_bucket) == ("garage", "archive")
    assert (shelf.storage_type, str(shelf.local_root), shelf.choosable) == ("local", "/shelf", True)
    assert settings.masked()["STORAGES"] == "archive,shelf"


def test_storages_are_read_from_json(load) -> None:
    settings = load(json.dumps({"shelf": {"directory": "/shelf"}}), suffix="json")
    assert list(settings.by_storage) == ["default", "shelf"]


def test_a_storage_takes_nothing_from_the_settings_of_the_default_one(load) -> None:
    given = {
        "STORAGE_TYPE": "s3",
        "S3_BUCKET": "b",
        "S3_ENDPOINT_URL": "https://a",
        "S3_PUBLIC_URL": "https://p",
    }
    settings = load('[shelf]\ndirectory = "/shelf"', **given)
    assert (settings.is_public, settings.by_storage["shelf"].is_public) == (True, False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[shelf]\n", "shelf: a local storage needs directory, an absolute path"),
        ('[a]\nstorage_type = "s3"\n', "a: STORAGE_TYPE=s3 needs S3_BUCKET and S3_ENDPOINT_URL"),
        ('[a]\ndirectory = "/a"\ncolour = "red"\n', "a: colour: unknown setting"),
        (f'[a]\n{S3 % "x"}s3_secret_access_key = "abc"\n', "a: s3_secret_access_key must not be in the file"),
        (f'[a]\n{S3 % "x"}s3_access_key_id = {{env = "NONE"}}\n', "the environment variable NONE is not set"),
        (f'[a]\n{S3 % "x"}s3_access_key_id = {{file = "/none"}}\n', "/none cannot be read"),
        (
            f'[a]\n{S3 % "x"}private = true\ns3_public_url = "https://p"\n',
            "private and s3_public_url contradict",
        ),
        (f"[a]\n{S3 % 'x'}[b]\n{S3 % 'x'}", "a and b are the same storage"),
        ('[default]\ndirectory = "/a"\n', "'default' cannot be the name of a storage"),
        (
            '[media]\ndirectory = "/work/media"\n',
            "STORAGES: media is in the same place as the default storage",
        ),
        ('[shelf]\ndirectory = "/work/shelf"\n', "STORAGES: shelf: directory must be outside WORK_DIR"),
        ("[a", "is not valid TOML"),
    ],
)
def test_every_fault_is_explained_in_a_sentence(load, text, told) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(text)
    assert told in str(raised.value)
    assert "abc" not in str(raised.value)


def test_local_storage_that_was_the_default_one_can_be_named(load) -> None:
    given = {"STORAGE_TYPE": "s3", "S3_BUCKET": "b", "S3_ENDPOINT_URL": "https://a"}
    settings = load('[former]\ndirectory = "/work/media"\n', **given)
    assert settings.by_storage["former"].local_root == settings.local_root
    for directory in ("/work", "/work/media/films", "/work/originals"):
        with pytest.raises(ConfigurationError, match="former: directory must be outside WORK_DIR"):
            load(f'[former]\ndirectory = "{directory}"\n', **given)


def test_all_faults_of_all_storages_are_reported_together(load) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load('[a]\n[b]\nstorage_type = "s3"\n')
    assert "a: a local storage" in str(raised.value)
    assert "b: STORAGE_TYPE=s3 needs" in str(raised.value)


def test_private_by_default_needs_a_private_storage_when_the_default_one_is_public(load) -> None:
    given = {"S3_PUBLIC_URL": "https://cdn.example", "DEFAULT_VISIBILITY": "private"}
    with pytest.raises(ConfigurationError, match="needs a private storage"):
        load('[shelf]\ndirectory = "/shelf"', **given)
    assert load('[shelf]\ndirectory = "/shelf"\nprivate = true', **given).has_private_storage
