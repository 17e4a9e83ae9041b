"""The result of bench/engines.py for people: one page without network or script, and the table of docs/engines.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

_PAGE = Path(__file__).with_suffix(".html.j2")
_BAR = """{% set all = [equal + explained + unexplained, 1] | max %}<span class="bar" role="img"
aria-label="{{ equal }} equal, {{ explained }} explained, {{ unexplained }} unexplained"><i class="e"
style="width: {{ 100 * equal / all }}%"></i><i class="p" style="width: {{ 100 * explained / all }}%"></i><i class="u"
style="width: {{ 100 * unexplained / all }}%"></i></span>"""


def page(result: dict[str, Any]) -> str:
    """The page; every text in it is escaped."""
    made = Environment(autoescape=True)
    bar = made.from_string(_BAR)

    def drawn(equal: int, explained: int, unexplained: int) -> Any:
        return Markup(bar.render(equal=equal, explained=explained, unexplained=unexplained))

    return made.from_string(_PAGE.read_text(encoding="utf-8")).render(
        r=result, bar=drawn, mb=lambda size: f"{size / 1e6:,.0f} MB"
    )


def write_page(result: dict[str, Any], path: Path) -> None:
    """Write the page, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(result), encoding="utf-8")


def doc_table(result: dict[str, Any]) -> str:
    """The table of docs/engines.md, in Markdown."""
    spark = result["spark"]["stream"]
    lines = [
        "| engine | `late_rule` | rows written | orders lost | rows equal | explained | unexplained | wrong causes |",
        "|---|---|---|---|---|---|---|---|",
        f"| twinrun's stream ({result['spark']['version']}) | its own log | {spark['rows']:,} | {spark['lost']:,} | "
        f"{spark['rows'] - spark['explained'] - spark['unexplained']:,} | {spark['explained']:,} | "
        f"{spark['unexplained']:,} | |",
    ]
    for name, each in result["engines"].items():
        counts = [each[key] for key in ("rows", "lost", "equal", "explained", "unexplained", "wrong")]
        cells = " | ".join(f"{count:,}" for count in counts)
        lines.append(f"| {name} ({each['version']}) | `{each['late_rule']}` | {cells} |")
    return "\n".join(lines)


def pace_table(result: dict[str, Any]) -> str:
    """The second table of docs/engines.md, of the run at a pace."""
    lines = [
        "| engine | `late_rule` | orders lost | rows equal | explained | unexplained | wrong causes | first row |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, each in result["engines"].items():
        counts = [each[key] for key in ("lost", "equal", "explained", "unexplained", "wrong")]
        first = "never" if each["first_row_s"] is None else f"{each['first_row_s']:.0f} s"
        cells = " | ".join([*(f"{count:,}" for count in counts), first])
        lines.append(f"| {name} | `{each['late_rule']}` | {cells} |")
    return "\n".join(lines)
