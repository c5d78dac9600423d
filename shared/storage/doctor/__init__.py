"""Diagnoses a configured storage in plain sentences; leaves nothing behind."""

from shared.storage.doctor.diagnose import diagnose
from shared.storage.doctor.findings import Finding, Report

__all__ = ["Finding", "Report", "diagnose"]
