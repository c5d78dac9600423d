"""Playback credentials: viewer tokens for one video, and grants that let caches share its segments."""
