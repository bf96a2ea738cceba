"""Put the figures of benchmarks/results/*.json into the pages that show them, between their marks.

python benchmarks/tables.py            # rewrite
python benchmarks/tables.py --check    # fail where a page does not show the figures
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskloom.balance import BALANCES

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


def place(result: dict[str, Any]) -> str:
    """Say where figures come from."""
    machine = result["machine"]
    device = "no GPU" if machine["device"] == "cpu" else machine["device"]
    return f"{machine['cores']} cores ({machine['processor']}), {device}, {result['date']}; `{result['command']}`."


def gradients_table(result: dict[str, Any]) -> str:
    """Give time ratio and memory of every way to each task's gradient, a block a problem."""
    lines = []
    for problem in result["problems"]:
        size, rows, tokens = problem["parameters"] / 1e6, problem["rows"], problem["tokens"]
        lines += [
            f"T = {problem['tasks']}, {problem['adapter']}: {size:.1f} M shared parameters, {rows} rows of {tokens} "
            f"tokens for each task; a joint step takes {problem['joint_seconds']:.2f} s.",
            "",
            "| way | time / joint | memory, MiB | difference |",
            "|---|---|---|---|",
        ]
        for row in problem["contestants"]:
            known = row["name"] not in {"joint", "separate passes"} and row["difference"] is not None
            difference = f"{row['difference']:.0e}" if known else ""
            lines.append(f"| {row['name']} | {row['ratio']:.2f} | {row['peak_mib']} | {difference} |")
        lines += [f"| {name} | does not run | | {why} |" for name, why in problem["failed"].items()]
        lines.append("")
    return "\n".join([*lines, place(result)])


def conflict_table(result: dict[str, Any]) -> str:
    """Give the clean task's score by each method, and its difference to plain joint training."""
    seeds = len(result["methods"][0]["scores"])
    lines = [
        "A planted conflict: two tasks on the same texts with one head that is never trained, the second with its "
        f"labels flipped and a loss twice as steep; {seeds} paired seeds of {result['steps']} steps. Accuracy of the "
        "clean task on its test split:",
        "",
        "| method | clean task | difference to `equal`, 95 % interval | sign-flip p | cosine up to step 50 |",
        "|---|---|---|---|---|",
    ]
    for row in result["methods"]:
        mean, low, high = row["difference"]
        spread = "" if row["method"] == "equal" else f"{mean:+.3f} ({low:+.3f} … {high:+.3f})"
        cosine = f"{row['cosine']:.3f}" if "cosine" in row else ""
        p = "" if row["method"] == "equal" else f"{row['p']:.3f}"
        name = "alone, without the other task" if row["method"] == "alone" else f"`{row['method']}`"
        lines.append(f"| {name} | {row['mean']:.3f} | {spread} | {p} | {cosine} |")
    return "\n".join([*lines, "", place(result)])


def throughput_table(result: dict[str, Any]) -> str:
    """Give each contestant's speed, ours as a multiple of it, and its padding."""
    rows = {row["name"]: row for row in result["contestants"]}
    lines = [
        f"{result['rows']} rows a step, in {result['rectangles']:.1f} rectangles; a step takes "
        f"{result['step_seconds']:.2f} s, {result['building']:.1%} of it to read, cut and pad.",
        "",
        "| contestant | useful tokens / s | Taskloom / it | quartiles | padding |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        low, high = row["quartiles"]
        share = result["share"].get(name)
        shown = name if share is None else f"{name} alone ({share:.0%} of the tokens)"
        ratio = "" if name == "taskloom" else f"{row['ratio']:.2f} | {low:.2f} … {high:.2f}"
        lines.append(f"| {shown} | {row['tokens_per_second']:,} | {ratio or ' | '} | {row['padding']:.1%} |")
    return "\n".join([*lines, "", place(result)])


def methods_table() -> str:
    """Give every balancing method with what it looks at."""
    own = {path.stem for path in (ROOT / "src" / "taskloom" / "balance").glob("[!_]*.py")}
    looks = {
        "nothing": "nothing",
        "losses": "losses",
        "gramian": "Gramian",
        "cross_gramian": "cross",
        "jacobian": "gradients",
    }
    lines = ["| method | looks at | |", "|---|---|---|"]
    for name in BALANCES.names():
        star = "\\*" if name in own else ""
        lines.append(
            f"| `{name}`{star} | {looks.get(needs := BALANCES.load(name).needs, needs)} | {BALANCES.summary(name)} |"
        )
    return "\n".join(lines)


def draw_gradients(result: dict[str, Any], path: Path) -> None:
    """Draw what each way costs against the number of tasks, for the problems of one adapter each."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "taskloom"
    from matplotlib import pyplot

    kinds = ("lora", "full")
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(4.5 * len(kinds), 3.4), sharey=True, squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        found: dict[str, list[tuple[int, float]]] = {}
        for problem in result["problems"]:
            if problem["adapter"] == kind:
                for row in problem["contestants"]:
                    found.setdefault(row["name"], []).append((problem["tasks"], row["ratio"]))
        for name, points in found.items():
            axis.plot(*zip(*sorted(points), strict=True), marker="o", markersize=3, label=name)
        axis.set(xscale="log", yscale="log", xlabel="tasks", title="LoRA" if kind == "lora" else "full fine-tuning")
        axis.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("time / joint step")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


TABLES = {
    "assistant": ("README.md", assistant_table),
    "gradients": ("docs/gradients.md", gradients_table),
    "gradients-gpu": ("docs/gradients.md", gradients_table),
    "conflict": ("docs/balance.md", conflict_table),
}
"""Result -> the page that shows it, and how."""


def replaced(page: str, name: str, table: str) -> str:
    """Put a table between its marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{table}\n{end}{tail}"


def tables() -> Iterator[tuple[str, str, str]]:
    """Give the name of each table, the page that shows it, and the table."""
    yield "methods", "docs/balance.md", methods_table()
    for name, (page, make) in TABLES.items():
        result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        yield name, page, make(result)


def main() -> None:
    """Rewrite the pages, or check them."""
    stale = []
    for name, page_name, table in tables():
        path = ROOT / page_name
        page = path.read_text(encoding="utf-8")
        wanted = replaced(page, name, table)
        if page != wanted and "--check" in sys.argv:
            stale.append(f"{page_name} does not show the table `{name}` as it is; run python benchmarks/tables.py")
        elif page != wanted:
            path.write_text(wanted, encoding="utf-8")
    if "--check" not in sys.argv:
        result = json.loads((ROOT / "benchmarks" / "results" / "gradients.json").read_text(encoding="utf-8"))
        draw_gradients(result, ROOT / "docs" / "gradients.svg")
    if stale:
        sys.exit("\n".join(stale))


if __name__ == "__main__":
    main()
