"""The services in pods: installed as documented, drained, killed, rolled back and forward, and scaled."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
import pytest

from tests.cluster.documented import commands, follow, make_checkout
from tests.cluster.observe import NAMESPACE, SERVING, pods, rolled_out, running
from tests.e2e.system import Client, make_clip
from tests.kubelet.images import PREVIOUS_NAME
from tests.kubelet.observe import (
    attempts,
    eventually,
    in_thread,
    is_ready,
    is_scaling,
    logged,
    replicas,
    signal_container,
    until_encoding,
)
from tests.kubelet.small_nodes import INGEST, filling
from tests.kubelet.viewers import watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.kubelet, pytest.mark.timeout(900)]

SECONDS = 40  # of a clip: four chunks
READY_SECONDS = 400.0
SERVICES = (*SERVING, "transcoder")
LEFT_TO_THE_BUILD = "docker build"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=SECONDS, size="1280x720")


@pytest.fixture(scope="module")
def key(cluster, servers, tmp_path_factory):
    """The first API key, by the commands of the documentation; with that the system is installed."""
    return install(cluster, servers, tmp_path_factory.mktemp("kustomize"), "prepare", "kustomize")


def install(cluster, servers, folder, *sections):
    lines = [line for name in sections for line in commands(name) if LEFT_TO_THE_BUILD not in line]
    printed = follow(cluster, make_checkout(folder), lines, filling(servers))
    rolled_out(cluster, *SERVING)
    return re.findall(r"vod_[A-Za-z0-9_-]{43}", printed[-1])[0]


@pytest.fixture
async def client(key) -> AsyncIterator[Client]:
    """The API at the address of its Service."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Client(session, {"INGEST_URL": f"http://{INGEST}:8080"}, key)


@pytest.fixture
async def database(servers):
    connection = await asyncpg.connect(servers["DATABASE_URL"])
    yield connection
    await connection.close()


@pytest.fixture
async def played(client, clip):
    """The playlist of a video that is ready."""
    (ready,) = await all_ready(client, await upload(client, clip, 1))
    return ready["playlistUrl"]


async def upload(client, clip, count):
    return [(await client.upload(clip, qualities="360p"))["id"] for _ in range(count)]


async def all_ready(client, ids):
    return [await client.ready(each, READY_SECONDS) for each in ids]


async def test_keda_starts_transcoders_from_zero_and_a_video_plays(cluster, client, clip, tmp_path):
    await eventually(lambda: replicas(cluster, "transcoder") == 0, "KEDA stops idle transcoders")
    await eventually(lambda: pods(cluster, "transcoder") == [], "they end, though they had hardly begun")
    uploaded = await client.upload(clip, qualities="720p,360p")
    await eventually(lambda: replicas(cluster, "transcoder") > 0, "KEDA starts one for the video to plan")
    ready = await client.ready(uploaded["id"], READY_SECONDS)
    sandbox = logged(cluster, running(cluster, "transcoder")[0], "sandbox")
    assert min(sandbox["landlock"], sandbox["network"]) > 0
    found = await client.play(ready, tmp_path)
    assert {name: each.frames for name, each in found.items()} == dict.fromkeys(
        ("720p", "360p"), SECONDS * 25
    )


async def test_drained_node_loses_no_video_and_no_chunk_in_progress(cluster, client, clip, database, played):
    async with watching(played):
        ids = await upload(client, clip, 3)
        await until_encoding(database, 2)
        node = running(cluster, "transcoder")[0]["spec"]["nodeName"]
        await in_thread(cluster.kubectl, "drain", node, "--delete-emptydir-data", "--timeout=280s")
        assert node not in {each["spec"]["nodeName"] for each in running_pods(cluster)}
        cluster.kubectl("uncordon", node)
        await all_ready(client, ids)
    assert set(await attempts(database, ids)) == {1}, "no chunk was encoded twice"


async def test_killed_transcoder_costs_one_chunk(nodes, cluster, client, clip, database):
    ids = await upload(client, clip, 2)
    await until_encoding(database, 1)
    await in_thread(signal_container, nodes, running(cluster, "transcoder")[0], "SIGKILL")
    await all_ready(client, ids)
    found = sorted(await attempts(database, ids))
    assert found[:-1] == [1] * (len(found) - 1), "no other chunk was encoded twice"
    assert found[-1] <= 2


async def test_release_is_rolled_back_and_forward_while_videos_are_processed_and_played(
    cluster, client, clip, database, played
):
    async with watching(played):
        ids = await upload(client, clip, 3)
        await until_encoding(database, 1)
        for name in SERVICES:
            image = f"{name}={PREVIOUS_NAME}"
            cluster.kubectl("set", "image", f"deployment/{name}", image, *NAMESPACE)
        await in_thread(rolled_out, cluster, *SERVICES)
        images = {each["spec"]["containers"][0]["image"] for each in running_pods(cluster)}
        assert images == {PREVIOUS_NAME}
        ids += await upload(client, clip, 2)
        for name in SERVICES:
            cluster.kubectl("rollout", "undo", f"deployment/{name}", *NAMESPACE)
        await in_thread(rolled_out, cluster, *SERVICES)
        await all_ready(client, ids)
    assert set(await attempts(database, ids)) == {1}, "no chunk was encoded twice"


def running_pods(cluster):
    return [pod for name in SERVICES for pod in running(cluster, name)]


async def test_hpa_reads_the_use_of_cpu_and_adds_streamers_under_load(cluster, played):
    for name in ("ingest", "streamer"):
        await eventually(lambda name=name: is_scaling(cluster, name), f"the HPA of {name} has numbers")
    async with watching(played, viewers=10, pause_seconds=0):
        await eventually(lambda: replicas(cluster, "streamer") == 3, "the HPA adds a streamer")


async def test_pod_that_does_not_answer_gets_no_requests(nodes, cluster, client):
    (pod, *_) = running(cluster, "ingest")
    await in_thread(signal_container, nodes, pod, "SIGSTOP")
    await eventually(lambda: not is_ready(cluster, pod), "the readiness probe fails")
    for _ in range(20):
        await client.call("GET", "/api/videos")
    await in_thread(signal_container, nodes, pod, "SIGCONT")
    await eventually(lambda: is_ready(cluster, pod), "the pod is ready again")


async def test_idle_transcoders_end(cluster, key):
    await eventually(lambda: replicas(cluster, "transcoder") == 0, "KEDA stops idle transcoders")


async def test_newcomer_follows_the_page_with_helm(cluster, servers, key, clip, tmp_path):
    """In a namespace that has nothing but the Secret."""
    cluster.kubectl("delete", "scaledobject", "--all", *NAMESPACE)
    kinds = "deployment,service,hpa,pdb,networkpolicy,serviceaccount,configmap,triggerauthentication"
    cluster.kubectl("delete", kinds, "--all", *NAMESPACE)
    cluster.kubectl("delete", "priorityclass", "--selector=app.kubernetes.io/part-of=vod-pipeline")
    await eventually(lambda: pods(cluster) == [], "the pods end")
    made = await in_thread(install, cluster, servers, tmp_path, "prepare", "helm")
    (address,) = [
        each["spec"]["clusterIP"]
        for each in cluster.get("services", *NAMESPACE)["items"]
        if each["metadata"]["name"] == "ingest"
    ]
    async with aiohttp.ClientSession() as session:
        client = Client(session, {"INGEST_URL": f"http://{address}:8080"}, made)
        await all_ready(client, await upload(client, clip, 1))
