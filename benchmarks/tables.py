"""Put the figures of benchmarks/results/*.json into the pages that show them, between their marks.

python benchmarks/tables.py            # rewrite
python benchmarks/tables.py --check    # fail where a page does not show the figures
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import place
from study_tables import (
    assistant_study_table,
    autopilot_table,
    fairness_table,
    plans_table,
    structure_table,
    transfer_table,
)

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


def unequal_table(result: dict[str, Any]) -> str:
    """Give both tasks' scores under each mixture, and the small one's difference to the default's, best first."""
    sizes = result["sizes"].items()
    (small, few), (large, many) = ((f"`{name}`", f"{size:,}") for name, size in sizes)
    rows = sorted(result["mixtures"], key=lambda row: -row["difference"][0])
    said = [f"`{row['mixture']}` has {json.dumps(row['options'])}" for row in rows if row["options"]]
    lines = [
        f"{small} with {few} rows beside {large} with {many}; {len(rows[0]['small'])} paired seeds of "
        f"{result['steps']} steps of {result['rows']} rows. Every mixture with its defaults; {', '.join(said)}. "
        "Means over seeds, with 95 % intervals over them (Student's t):",
        "",
        f"| mixture | {small}, span F1 | difference to `temperature` | {large}, accuracy | epochs of {small} |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        shown = [
            f"{mean:.3f} ({low:.3f} … {high:.3f})" for mean, low, high in (row["small_interval"], row["large_interval"])
        ]
        mean, low, high = row["difference"]
        spread = "" if row["mixture"] == "temperature" else f"{mean:+.3f} ({low:+.3f} … {high:+.3f})"
        epochs = statistics.mean(row["epochs"])
        lines.append(f"| `{row['mixture']}` | {shown[0]} | {spread} | {shown[1]} | {epochs:.1f} |")
    return "\n".join([*lines, "", place(result)])


def useless_table(result: dict[str, Any]) -> str:
    """Give the real tasks' scores of every arm, the policy's differences to the others, and what was drawn."""
    arms = {
        "without": "the two real tasks alone",
        "with": "with the useless task",
        "policy": "with it, and `rest_converged`",
    }
    held = result["arms"]
    tasks = list(held["without"][0]["scores"])
    lines = [
        f"A planted useless task, with labels at random, beside two real ones; {len(held['with'])} paired seeds of "
        f"{result['steps']} steps. Means of the real tasks' test scores, the differences of the run with the policy to "
        "each other with 95 % intervals over seeds (Student's t), and the useless task's share of the rows drawn:",
        "",
        "| run | " + " | ".join(f"`{task}` | policy less it" for task in tasks) + " | useless rows |",
        "|---" * (2 * len(tasks) + 2) + "|",
    ]
    for arm, said in arms.items():
        cells = []
        for task in tasks:
            cells.append(f"{statistics.mean(run['scores'][task] for run in held[arm]):.3f}")
            found = result["differences"].get(f"{task}, policy - {arm}")
            cells.append("{:+.3f} ({:+.3f} … {:+.3f})".format(*found) if found else "")
        shares = [run["drawn"].get("useless", 0) / sum(run["drawn"].values()) for run in held[arm]]
        lines.append(f"| {said} | {' | '.join(cells)} | {statistics.mean(shares):.0%} |")
    return "\n".join([*lines, "", rests(held["policy"]), "", place(result)])


def rests(runs: list[dict[str, Any]]) -> str:
    """Say in how many runs each task was put to rest, and when first."""
    first: dict[str, list[int]] = {}
    for run in runs:
        for task in run["drawn"]:
            steps = [row["step"] for row in run["decisions"] if row["task"] == task and row["factor"] < 1]
            first.setdefault(task, []).extend(steps[:1])
    said = [
        f"`{task}` in {len(steps)}" + (f" (first at step {', '.join(map(str, sorted(steps)))})" if steps else "")
        for task, steps in first.items()
    ]
    return f"Put to rest in the {len(runs)} runs with the policy: {'; '.join(said)}."


def sharing_table(result: dict[str, Any]) -> str:
    """Give what a mixed step costs under each scheme."""
    lines = [
        f"{result['tasks']} tasks in one batch, rank {result['rank']}, forward and backward pass of an encoder of "
        "22.7 M parameters:",
        "",
        "| scheme | time / one LoRA for all | trained parameters |",
        "|---|---|---|",
    ]
    lines += [f"| {row['name']} | {row['ratio']:.2f} | {row['trained']:,} |" for row in result["schemes"]]
    return "\n".join([*lines, "", place(result)])


def case_studies_table(results: dict[str, dict[str, Any]]) -> str:
    """Give each task's own score in the joint run of every recipe, and alone."""
    lines = [
        "Case studies, each task jointly and alone with the same rows ([all figures](docs/recipes.md))."
        + (f" {STAND_IN}" if any(result["pretraining"] for result in results.values()) else ""),
        "",
        "| backbone | task | test metric | joint | alone | difference |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        for task, single in result["single"].items():
            own = single["scores"][0]
            row = next(
                row for row in result["joint"]["scores"] if (row["task"], row["metric"]) == (task, own["metric"])
            )
            gap = "{:+.3f} ({:+.3f} … {:+.3f})".format(*single["differences"][own["metric"]])
            lines.append(
                f"| {BACKBONES[name]} | {task} | {own['metric']} | {row['value']:.3f} | {own['value']:.3f} | {gap} |"
            )
    return "\n".join(lines)


BACKBONES = {"bert": "MiniLM", "t5": "T5, stand-in", "chat": "Llama, stand-in"}
"""Recipe -> what its backbone is, in the order of the pages."""

STAND_IN = (
    "A stand-in is a model of a few million parameters, pretrained here in minutes, since no pretrained one comes in a "
    "package: it shows that the way works and not what such models reach."
)


def spent(part: dict[str, Any]) -> str:
    """Give the time that all cores together worked on something, or how long it took where that is not known."""
    known = part.get("processor_minutes")
    return f"{part['minutes']:g}" if known is None else f"{known:g}"


def recipe_table(result: dict[str, Any]) -> str:
    """Give each task's scores in the joint run and alone, with the difference of the two."""
    lines = [
        "| task | test metric | joint | alone | difference | constant answer | n |",
        "|---|---|---|---|---|---|---|",
    ]
    joint = result["joint"]
    for task, single in result["single"].items():
        alone = {row["metric"]: row for row in single["scores"]}
        for row in joint["scores"]:
            if row["task"] == task:
                shown = [
                    f"{each['value']:.3f} ({each['low']:.3f} … {each['high']:.3f})"
                    for each in (row, alone[row["metric"]])
                ]
                gap = "{:+.3f} ({:+.3f} … {:+.3f})".format(*single["differences"][row["metric"]])
                baseline = "" if row["baseline"] is None else f"{row['baseline']:.3f}"
                lines.append(f"| {task} | {row['metric']} | {' | '.join(shown)} | {gap} | {baseline} | {row['n']} |")
    size, trained = (joint["parameters"][key] / 1e6 for key in ("backbone", "trained"))
    rows = ", ".join(f"{count:,} of `{task}`" for task, count in joint["drawn"].items())
    minutes = ", ".join(f"`{task}` {spent(single)}" for task, single in result["single"].items())
    measure = "Processor minutes" if "processor_minutes" in joint else "Minutes, beside other work"
    lines += [
        "",
        f"One seed, {result['steps']} steps; rows drawn: {rows}. {size:.1f} M parameters, {trained:.1f} M trained. "
        f"{measure}: joint {spent(joint)}; alone {minutes}.",
    ]
    if result["pretraining"]:
        made = result["pretraining"]
        foretold = ", ".join(f"{task} {value:.0f}" for task, value in made["perplexity"].items())
        lines[-1] += (
            f" The backbone is a stand-in: pretrained here in {spent(made)} processor minutes ({made['steps']} steps, "
            f"{made['tokens'] / 1e6:.2f} M tokens; perplexity {foretold})."
        )
    return "\n".join([*lines, "", place(result)])


def headline_table() -> str:
    """Give what every task's gradient costs by the main ways, on each machine, for 16 tasks with LoRA."""
    ways = ("taskloom, jacobian", "taskloom, sketch", "separate passes", "torchjd.autojac", "torchjd.autogram")
    lines = [f"| 16 tasks, LoRA | {' | '.join(ways)} |", "|---" * (len(ways) + 1) + "|"]
    for name in ("gradients", "gradients-gpu"):
        result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        problem = next(each for each in result["problems"] if each["tasks"] == 16 and each["adapter"] == "lora")
        ratios = {row["name"]: row["ratio"] for row in problem["contestants"]}
        machine = result["machine"]
        where = f"{machine['cores']} cores" if machine["device"] == "cpu" else f"{machine['device']}, 1.07 B, bf16"
        lines.append(f"| {where} | {' | '.join(f'{ratios[way]:.2f}' for way in ways)} |")
    return "\n".join(lines)


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


def null_studies_table(result: dict[str, Any]) -> str:
    """Give how often verdicts are wrong where nothing differs, and how often they find what does, by seeds."""
    effects = list(result["rows"][0]["found"])
    heads = [f"effect {effect}: tasks found" for effect in effects]
    lines = ["| seeds | any task called harmed | any called helped | " + " | ".join(heads) + " |"]
    lines.append("|---|---|---|" + "---|" * len(effects))
    for row in result["rows"]:
        found = " | ".join(f"{row['found'][effect]:.1%}" for effect in effects)
        lines.append(f"| {row['seeds']} | {row['false_harmed']:.1%} | {row['false_helped']:.1%} | {found} |")
    return "\n".join([*lines, "", place(result)])


TABLES = {
    "null_studies": ("docs/statistics.md", null_studies_table),
    "assistant": ("README.md", assistant_table),
    "gradients": ("docs/gradients.md", gradients_table),
    "gradients-gpu": ("docs/gradients.md", gradients_table),
    "conflict": ("docs/balance.md", conflict_table),
    "useless": ("docs/policies.md", useless_table),
    "unequal": ("docs/mixture.md", unequal_table),
    "throughput": ("docs/batching.md", throughput_table),
    "sharing": ("docs/sharing.md", sharing_table),
    "transfer": ("docs/transfer.md", transfer_table),
    "fairness": ("docs/fairness.md", fairness_table),
    "autopilot": ("docs/autopilot.md", autopilot_table),
    "assistant_study": ("README.md", assistant_study_table),
    "plans": ("docs/planning.md", plans_table),
    "structure": ("docs/sharing.md", structure_table),
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
    yield "headline", "README.md", headline_table()
    for name, (page, make) in TABLES.items():
        result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        yield name, page, make(result)
    studies = {}
    for name in BACKBONES:
        path = ROOT / "benchmarks" / "results" / f"recipe-{name}.json"
        if path.is_file():
            studies[name] = json.loads(path.read_text(encoding="utf-8"))
            yield f"recipe-{name}", "docs/recipes.md", recipe_table(studies[name])
    if studies:
        yield "case-studies", "README.md", case_studies_table(studies)


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
