"""The kinds of faults by name; each function returns how many faults it has injected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.faults import messages, network, servers, storage

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Inject

FAULTS: dict[str, Inject] = {
    inject.__name__: inject
    for inject in (
        *(servers.rabbitmq_killed, servers.rabbitmq_stopped, servers.postgres_killed),
        *(servers.postgres_stopped, servers.s3_killed, servers.s3_away),
        *(servers.postgres_frozen, servers.rabbitmq_frozen, servers.s3_frozen, servers.ingest_frozen),
        *(network.rabbitmq_cut, network.rabbitmq_black_hole, network.postgres_cut),
        network.postgres_black_hole,
        *(storage.s3_unavailable, storage.s3_applied_then_500, storage.s3_truncated),
        *(storage.s3_timeout, storage.s3_silent, storage.s3_stalled, storage.disk_full),
        *(messages.delivered_twice, messages.out_of_order, messages.given_back),
        *(messages.malformed, messages.unknown_version, messages.about_deleted),
    )
}
