"""Measure the pipeline against what could be used instead; no part of the test suite."""
