"""The doctor's findings; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `advice` says what to do; empty if nothing."""

    check: str
    status: Status
    message: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the report."""
        return {
            "check": self.check,
            "status": self.status,
            "message": self.message,
            "advice": self.advice or None,
        }


@dataclass
class Report:
    """All findings, in order."""

    storage: str
    findings: list[Finding] = field(default_factory=list)

    def ok(self, check: str, message: str) -> None:
        self.findings.append(Finding(check, "ok", message))

    def warn(self, check: str, message: str, advice: str) -> None:
        self.findings.append(Finding(check, "warning", message, advice))

    def fail(self, check: str, message: str, advice: str) -> None:
        self.findings.append(Finding(check, "failed", message, advice))

    def skip(self, check: str, message: str) -> None:
        self.findings.append(Finding(check, "skipped", message))

    @property
    def is_healthy(self) -> bool:
        """Tell whether nothing failed; warnings are not failures."""
        return not any(finding.status == "failed" for finding in self.findings)

    def failed_checks(self) -> list[str]:
        """Return the failed checks."""
        return [finding.check for finding in self.findings if finding.status == "failed"]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "storage": self.storage,
            "healthy": self.is_healthy,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def to_text(self) -> str:
        """Return the report as text: one line per finding, one for its advice."""
        lines = [self.storage]
        for each in self.findings:
            lines.append(f"  {each.status:<8}{each.check:<14}{each.message}")
            lines += [f"{'':<24}{each.advice}"] if each.advice else []
        return "\n".join([*lines, "healthy" if self.is_healthy else "not healthy"]) + "\n"
