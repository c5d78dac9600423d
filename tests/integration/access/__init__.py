"""Who gets in: every route of streamer and ingest with every wrong credential, against the real programs."""
