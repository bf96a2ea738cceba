"""Put the figures of benchmarks/results/*.json into the pages that show them, between their marks.

python benchmarks/tables.py            # rewrite
python benchmarks/tables.py --check    # fail where a page does not show the figures
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def assistant_table(result: dict[str, Any]) -> str:
    """Give each task's own score on its test split, with interval and baseline."""
    lines = ["| task | test metric | score | 95 % interval | constant answer | n |", "|---|---|---|---|---|---|"]
    shown = set()
    for row in result["scores"]:
        if row["task"] not in shown:
            shown.add(row["task"])
            baseline = "" if row["baseline"] is None else f"{row['baseline']:.3f}"
            score = f"{row['value']:.3f} | {row['low']:.3f} … {row['high']:.3f}"
            lines.append(f"| {row['task']} | {row['metric']} | {score} | {baseline} | {row['n']} |")
    machine, minutes = result["machine"], result["minutes"]
    lines += ["", f"{minutes} minutes on {machine['cores']} cores ({machine['processor']}), {result['date']}."]
    return "\n".join(lines)


TABLES = {"assistant": ("README.md", assistant_table)}
"""Result -> the page that shows it, and how."""


def replaced(page: str, name: str, table: str) -> str:
    """Put a table between its marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{table}\n{end}{tail}"


def main() -> None:
    """Rewrite the pages, or check them."""
    stale = []
    for name, (page_name, make) in TABLES.items():
        path = ROOT / page_name
        result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        page = path.read_text(encoding="utf-8")
        wanted = replaced(page, name, make(result))
        if page != wanted and "--check" in sys.argv:
            stale.append(f"{page_name} does not show benchmarks/results/{name}.json; run python benchmarks/tables.py")
        elif page != wanted:
            path.write_text(wanted, encoding="utf-8")
    if stale:
        sys.exit("\n".join(stale))


if __name__ == "__main__":
    main()
