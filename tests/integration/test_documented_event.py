"""The command in docs/rabbitmq.md that publishes an event, run literally."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika

from shared.contracts.cloudevents import decode
from shared.contracts.events import VideoUploaded
from shared.messaging.topology import declare_topology

PAGE = Path(__file__).parents[2] / "docs" / "rabbitmq.md"


async def test_documented_command_publishes_an_event_that_is_understood(servers: Any) -> None:
    program = re.search(r"<<'PYTHON'\n(.*?)\nPYTHON", PAGE.read_text(), re.DOTALL)
    assert program
    async with await aio_pika.connect(servers.rabbitmq_url) as connection:
        channel = await connection.channel()
        await declare_topology(channel)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("hls.events", "video.uploaded")
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program[1], servers.rabbitmq_url, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(run.communicate(), 30)
        message = await queue.get(timeout=5)
        assert message is not None
        _, event = decode(message.body)
    assert isinstance(event, VideoUploaded)
    assert (run.returncode, UUID(output.decode().strip())) == (0, event.video_id)
    assert message.content_type == "application/cloudevents+json"
