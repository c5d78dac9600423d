"""The content check: compares a chunk's picture and sound with its source."""
