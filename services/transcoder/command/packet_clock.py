"""The time base in which FFmpeg hands packets to packet filters (`-bsf`): it depends on the version.

Up to 6.1 packets are brought to the muxer's time base first, 90,000 ticks a second in MPEG-TS; from 7.0 on
they keep the encoder's, one frame or one sample. The variable `tb` of the filters says the encoder's in both,
so a filter cannot find out: a trial chunk does when the service starts (encode/check_ffmpeg.py).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final, Literal

from services.transcoder.plan.timeline import AUDIO_FRAME, AUDIO_RATE

PacketClock = Literal["muxer", "encoder"]

PACKET_CLOCKS: Final[tuple[PacketClock, ...]] = ("muxer", "encoder")
TICKS_A_SECOND: Final = 90_000  # of MPEG-TS
TICKS_A_FRAME: Final = AUDIO_FRAME * TICKS_A_SECOND // AUDIO_RATE  # in one AAC frame


def picture_ticks(rate: Fraction, clock: PacketClock) -> Fraction:
    """Return how many ticks a picture lasts in the eyes of a packet filter."""
    return TICKS_A_SECOND / rate if clock == "muxer" else Fraction(1)


def audio_frame_ticks(clock: PacketClock) -> int:
    """Return how many ticks an AAC frame lasts in the eyes of a packet filter."""
    return TICKS_A_FRAME if clock == "muxer" else AUDIO_FRAME
