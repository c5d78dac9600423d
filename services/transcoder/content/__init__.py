"""The content check: does a chunk show and sound what its source does? Levels, sampled pictures, packets."""
