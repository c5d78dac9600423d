from __future__ import annotations

import pytest

from services.uploader.retention import Retention
from shared.errors import ConfigurationError
from shared.settings import Settings, load_settings
from tests.unit.service_settings import SERVICES, settings_of

NEEDED = {
    "DATABASE_URL": "postgresql://vod:secret@db/vod",
    "RABBITMQ_URL": "amqp://vod:secret@mq/",
    "WORK_DIR": "/work",
}


@pytest.fixture
def environment(monkeypatch):
    def set_environment(**values):
        for name in ("STORAGE_TYPE", "S3_ENDPOINT_URL", "S3_BUCKET", "S3_REGION", "S3_PROVIDER", "HTTP_PORT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (NEEDED | values).items():
            monkeypatch.setenv(name, value)

    return set_environment


def test_settings_have_the_documented_defaults_when_only_the_required_are_given(environment):
    environment()
    settings = load_settings(Settings, 8080)
    chosen = (settings.storage_type, settings.hls_segment_seconds, settings.chunk_seconds, settings.encoder)
    assert chosen == ("local", 10, 60, "auto")
    assert (settings.http_port, settings.delete_local_after_s3) == (8080, False)


def test_settings_name_every_missing_variable_when_the_environment_is_empty(monkeypatch):
    for name in NEEDED:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError) as raised:
        load_settings(Settings, 8080)
    assert all(f"{name}: is required" in str(raised.value) for name in NEEDED)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://vod:secret@db:port/vod",
        "postgresql://vod:se/cret@db/vod",
        "postgresql://vod@db:99999/vod",
    ],
)
def test_settings_refuse_an_address_that_no_client_can_connect_to(environment, url):
    environment(DATABASE_URL=url)
    with pytest.raises(ConfigurationError, match="DATABASE_URL: is not a URL: the port") as raised:
        load_settings(Settings, 8080)
    assert "cret" not in str(raised.value)


def test_settings_accept_several_hosts_of_postgres(environment):
    environment(DATABASE_URL="postgresql://vod@one:5432,two:5433/vod?target_session_attrs=primary")
    assert "two:5433" in load_settings(Settings, 8080).database_url.get_secret_value()


def test_settings_ask_for_the_bucket_when_storage_is_s3(environment):
    environment(STORAGE_TYPE="s3")
    with pytest.raises(ConfigurationError, match="STORAGE_TYPE=s3 needs S3_BUCKET and S3_ENDPOINT_URL"):
        load_settings(Settings, 8080)


@pytest.mark.parametrize(
    ("provider", "region", "style"),
    [("aws", "us-east-1", "virtual"), ("r2", "auto", "path"), ("garage", "garage", "path")],
)
def test_settings_take_the_rest_from_the_provider_when_it_is_named(environment, provider, region, style):
    environment(STORAGE_TYPE="s3", S3_PROVIDER=provider, S3_BUCKET="b", S3_ENDPOINT_URL="https://s3.example")
    settings = load_settings(Settings, 8080)
    assert (settings.s3_region, settings.s3_addressing_style) == (region, style)


def test_settings_prefer_what_is_given_when_the_provider_has_a_default(environment):
    environment(S3_PROVIDER="r2", S3_REGION="eu")
    assert load_settings(Settings, 8080).s3_region == "eu"


def test_masked_shows_no_secret_when_printed(environment):
    environment(S3_SECRET_ACCESS_KEY="hush")
    masked = load_settings(Settings, 8080).masked()
    assert masked["DATABASE_URL"] == "postgresql://***@db/vod"
    assert "secret" not in str(masked)
    assert "hush" not in str(masked)


def test_local_files_stay_when_local_disk_is_the_storage():
    assert Retention(delete_local_after_s3=True).deletes_local("s3")
    assert not Retention(delete_local_after_s3=True).deletes_local("local")
    assert not Retention(delete_local_after_s3=False).deletes_local("s3")


@pytest.mark.parametrize(
    ("values", "region", "style"),
    [
        ({"S3_PROVIDER": "aws", "S3_BUCKET": "b"}, "us-east-1", "virtual"),
        ({"S3_PROVIDER": "aws", "S3_BUCKET": "b", "AWS_REGION": "eu-west-1"}, "eu-west-1", "virtual"),
        ({"S3_PROVIDER": "aws", "S3_BUCKET": "b", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2", "virtual"),
        (
            {"S3_PROVIDER": "aws", "S3_BUCKET": "b", "AWS_REGION": "eu-west-1", "S3_REGION": "us-west-2"},
            "us-west-2",
            "virtual",
        ),
        ({"S3_PROVIDER": "aws", "S3_BUCKET": "videos.example.com"}, "us-east-1", "path"),
        ({"S3_PROVIDER": "garage", "S3_BUCKET": "b", "AWS_REGION": "eu-west-1"}, "garage", "path"),
        ({"S3_PROVIDER": "r2", "S3_BUCKET": "b"}, "auto", "path"),
    ],
)
def test_settings_fill_region_and_style_from_the_provider(environment, values, region, style):
    environment(STORAGE_TYPE="s3", S3_ENDPOINT_URL="https://s3.example", **values)
    settings = load_settings(Settings, 8080)
    assert (settings.s3_region, settings.s3_addressing_style) == (region, style)


def test_settings_refuse_a_kms_key_without_the_encryption_that_uses_it(environment):
    environment(S3_SSE_KMS_KEY_ID="alias/vod", STORAGE_TYPE="s3", S3_BUCKET="b", S3_ENDPOINT_URL="http://s3")
    with pytest.raises(ConfigurationError, match="S3_SSE_KMS_KEY_ID needs S3_SSE=aws:kms"):
        load_settings(Settings, 8080)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "DATABASE_URL",
            "mysql://u:hunter2@h/d",
            "DATABASE_URL: must begin with postgresql:// or postgres://",
        ),
        ("DATABASE_URL", "h/d", "DATABASE_URL: must begin with postgresql://"),
        ("RABBITMQ_URL", "amqp:///vhost", "RABBITMQ_URL: names no host"),
        (
            "RABBITMQ_URL",
            "http://u:hunter2@h",
            "RABBITMQ_URL: must begin with amqp:// or amqps://",
        ),
        ("S3_ENDPOINT_URL", "ftp://h", "S3_ENDPOINT_URL: must begin with http:// or https://"),
        ("S3_ENDPOINT_URL", "minio:9000", "S3_ENDPOINT_URL: must begin with http:// or https://"),
        ("S3_PUBLIC_URL", "cdn.example.org", "S3_PUBLIC_URL: must begin with"),
        ("S3_PRESIGN_ENDPOINT_URL", "s3://h", "S3_PRESIGN_ENDPOINT_URL: must begin with"),
        ("PUBLIC_STREAM_URL", "localhost:8081", "PUBLIC_STREAM_URL: must begin with"),
        ("SOURCE_DIRS", "incoming,../other", "SOURCE_DIRS: ../other is outside WORK_DIR"),
        ("SOURCE_DIRS", "/etc", "SOURCE_DIRS: /etc is outside WORK_DIR"),
        ("TRANSCODER_QUEUES", "plan,chunks", "TRANSCODER_QUEUES: chunks is not a transcoder queue"),
        ("TRANSCODER_QUEUES", ",", "TRANSCODER_QUEUES: name at least one of plan, first, bulk"),
    ],
)
def test_settings_name_the_variable_that_no_client_can_use(environment, name, value, message):
    environment(**{name: value})
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Settings, 8080)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_takes_the_environment_of_all_and_prints_what_it_uses(environment, service):
    environment(S3_SECRET_ACCESS_KEY="hush", MAX_UPLOAD_BYTES="5", SWEEP="off", DELIVERY="proxy")
    settings = load_settings(settings_of(service), 8080)
    assert settings.masked().keys() == {name.upper() for name in settings_of(service).model_fields}
    assert "hush" not in str(settings.masked())


def test_the_services_have_all_settings_and_no_other():
    of_services = [set(settings_of(each).model_fields) for each in SERVICES]
    assert set.union(*of_services) == set(Settings.model_fields)


@pytest.mark.parametrize(
    ("service", "other"),
    [
        ("streamer", {"RABBITMQ_URL": "", "HLS_SEGMENT_SECONDS": "0", "SWEEP": "maybe"}),
        ("ingest", {"ENCODER": "h265", "TRUSTED_PROXIES": "everyone", "SWEEP": "maybe"}),
        ("transcoder", {"CORS_ORIGINS": "everywhere", "SWEEP": "maybe"}),
        ("uploader", {"ENCODER": "h265", "MAX_UPLOADS_AT_ONCE": "0"}),
    ],
)
def test_a_service_does_not_look_at_the_settings_of_others(environment, service, other):
    environment(**other)
    assert load_settings(settings_of(service), 8080).http_port == 8080
    with pytest.raises(ConfigurationError):
        load_settings(Settings, 8080)


OF_S3 = {"STORAGE_TYPE": "s3", "S3_ENDPOINT_URL": "http://s3", "S3_BUCKET": "videos"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "WORK=bucket needs STORAGE_TYPE=s3"),
        (OF_S3 | {"S3_PUBLIC_URL": "https://cdn.example.org"}, "set S3_WORK_BUCKET to a private bucket"),
        (
            OF_S3 | {"S3_PUBLIC_URL": "https://cdn.example.org", "S3_WORK_BUCKET": "videos"},
            "anyone can read the bucket videos",
        ),
        (OF_S3 | {"S3_WORK_PREFIX": "hls/work"}, "S3_WORK_PREFIX must be a path"),
        (OF_S3 | {"S3_WORK_PREFIX": "/"}, "S3_WORK_PREFIX must be a path"),
        (OF_S3 | {"S3_WORK_PREFIX": "../x"}, "S3_WORK_PREFIX must be a path"),
    ],
)
def test_work_bucket_is_refused_where_it_cannot_be_private(environment, given, message):
    environment(WORK="bucket", **given)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Settings, 8080)
    assert message in str(caught.value)


def test_work_bucket_is_a_prefix_of_the_storage_unless_another_is_named(environment):
    environment(WORK="bucket", **OF_S3)
    settings = load_settings(Settings, 8080)
    assert (settings.work_bucket, settings.work_prefix) == ("videos", "work")
    environment(WORK="bucket", **OF_S3, S3_PUBLIC_URL="https://cdn.example.org", S3_WORK_BUCKET="private")
    settings = load_settings(Settings, 8080)
    assert (settings.work_bucket, settings.of_work_bucket().s3_bucket) == ("private", "private")
    assert not settings.of_work_bucket().is_public
