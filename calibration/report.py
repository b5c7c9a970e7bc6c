"""The report of a calibration: one HTML file that holds its pictures, to be read anywhere and kept."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import yaml

from calibration.outcome import Figure, Outcome

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:62em;padding:0 1em;color:#1c2733}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .9em;border-bottom:1px solid #d5dbe1;text-align:left}
.fine{color:#1a7f37}.off{color:#b35900}figure{margin:1.5em 0}img{max-width:100%;border:1px solid #d5dbe1}
figcaption{color:#57606a}pre{background:#f4f6f8;padding:1em;overflow:auto;font-size:13px}
.verdict{padding:.8em 1em;background:#eef4ee;border-left:4px solid #1a7f37}.verdict.off{background:#fdf4ea;
border-color:#b35900}"""


def write_report(path: Path, outcome: Outcome, samples: Path, kind: str) -> Path:
    """Write the HTML; ``samples`` is the folder that it was solved from, by the procedure ``kind``."""
    good = outcome.verdict.startswith("Good")
    calibration = outcome.calibration
    facts = [("robot", calibration.robot), ("date", calibration.date), ("samples", str(samples)),
             ("hash of the samples", calibration.samples_sha256)]  # fmt: skip
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(outcome.title)}</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>{escape(outcome.title)}</h1>",
        f'<p class="verdict{"" if good else " off"}">{escape(outcome.verdict)}</p>',
        _table(["", "found", "should be"], [
            [line.name, line.value, line.good, "" if not line.good else "fine" if line.fine else "off"]
            for line in outcome.lines
        ]),
        *(_figure(figure) for figure in outcome.figures),
        "<h2>Stored values</h2>", f"<pre>{escape(_stored(outcome))}</pre>",
        *(f"<h3>{escape(name)}</h3><pre>{escape(text)}</pre>" for name, text in outcome.exports.items()),
        _table(["", ""], [[*fact, "", ""] for fact in facts]),
        f"<p>Solve again: <code>robot-rl calibrate {escape(kind)} samples={escape(str(samples))}</code></p></html>",
    ]  # fmt: skip
    path.write_text("\n".join(parts))
    return path


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows are three cells and the class of the second."""
    lines = ["<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for *cells, kind in rows:
        first, second, *third = (escape(cell) for cell in cells)
        lines.append(f'<tr><td>{first}</td><td class="{kind}">{second}</td><td>{"".join(third)}</td></tr>')
    return "".join([*lines, "</table>"])


def _figure(figure: Figure) -> str:
    data = base64.b64encode(figure.png).decode()
    title = escape(figure.title)
    return f'<figure><img alt="{title}" src="data:image/png;base64,{data}"><figcaption>{title}</figcaption></figure>'


def _stored(outcome: Outcome) -> str:
    calibration = outcome.calibration
    lines = []
    for name, item in calibration.transforms.items():
        x, y, z = item.matrix[:3, 3].tolist()
        lines.append(f"{name}: {item.child} in {item.parent}, xyz {x:+.5f} {y:+.5f} {z:+.5f} m")
    for name, camera in calibration.cameras.items():
        (fx, _, cx), (_, fy, cy) = camera.matrix[:2].tolist()
        lens = f"{camera.model} {camera.coefficients.round(5).tolist()}"
        lines.append(f"{name}: fx {fx:.2f} fy {fy:.2f} cx {cx:.2f} cy {cy:.2f} px, {lens}")
    if calibration.values:
        lines.append(yaml.safe_dump({k: dict(v) for k, v in calibration.values.items()}, sort_keys=False).strip())
    return "\n".join(lines)
