"""What checks find, as a table with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from robot_rl.errors import RobotRlError

OK, WARN, FAIL = "ok", "warn", "fail"
_COLOUR = {OK: "green", WARN: "yellow", FAIL: "red"}


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``level`` is ok, warn or fail, ``remedy`` what to do about it."""

    check: str
    level: str
    told: str
    remedy: str = ""


def report(title: str, findings: Iterable[Finding]) -> None:
    """Print all of them. Raises RobotRlError when one failed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "found", "remedy", title=title)
    failed = 0
    for finding in findings:
        level = Text(finding.level, style=_COLOUR[finding.level])
        table.add_row(finding.check, level, Text(finding.told), Text(finding.remedy))
        failed += finding.level == FAIL
    Console().print(table)
    if failed:
        raise RobotRlError(f"{failed} check(s) failed", remedy="The table above says what to do")
