"""Predicted against measured transfer, on ten tasks of 300 rows each: eight real ones and two planted ones.

    python benchmarks/transfer.py --data FOLDER [--out runs/transfer] [--workers 2] [--quick]

FOLDER holds sst2, snips, clinc150, wnut17, stsb, bbq and three sets of bbh. One planted task has sst2's labels flipped,
on rows of its own, the other has random labels. For each of three seeds one joint run is probed; what its probes
predict is held against transfer as measured by training each task alone and every pair of tasks, under equal budgets:
each task has eight rows in every step of every run. The backbone is the lower half of MiniLM, so that 165 runs take an
hour and not a day. A pair's effect on a task is its normalised test score in the pair
less that alone. Spearman's correlation is over all ordered pairs; its interval is Student's over seeds. Estimators are
judged twice: with as many probes as 5 % of the joint run's time pays for, and with all that were taken. Plans
that are made of one seed's probes are valued by the pairs that the other seeds measured, beside random plans.

Runs that are finished are not trained again. Figures go to benchmarks/results/transfer.json, and
`python benchmarks/tables.py` puts them into docs/transfer.md. `--quick` takes three tasks, one seed and a few steps,
and writes no figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from measuring import write
from scipy import stats

from taskloom.affinity import Probe, read_probes
from taskloom.affinity.estimators import ESTIMATORS
from taskloom.affinity.reading import estimate
from taskloom.planning.partition import Groups, best_partitions, value_of
from taskloom.record import Record, write_text
from taskloom.statistics import t_interval

ROWS, STEPS, ROWS_PER_STEP = 300, 80, 8
TEST_ROWS, LAYERS, LIMIT_TOKENS = 400, 3, 32
PROBE_STEPS, BUDGET = 5, 0.05
RANDOM_PLANS = 500
TWIN, FLIPPED, RANDOM = "sentiment", "flipped", "random"
LOGIC = ("bbh_boolean_expressions", "bbh_navigate", "bbh_web_of_lies")
CLINC_LABELS = 15
METRICS = {"similarity": "spearman"}

Rows = dict[str, list[dict[str, Any]]]


def read(folder: Path) -> Rows:
    """Read a data set's rows by split."""
    return {
        split: [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        for split in ("train", "validation", "test")
    }


def tasks_of(data: Path) -> Iterator[tuple[str, str, Rows]]:
    """Give each task's name, type and rows, a few hundred of each split."""

    def part(rows: Rows, turn: int) -> Rows:
        """Take the turn-th part of each split, in an order drawn once."""
        found = {}
        for split, held in shuffled(rows).items():
            size = min(TEST_ROWS if split == "test" else ROWS, len(held) // 3)
            found[split] = held[turn * size : (turn + 1) * size]
        return found

    sst2, snips, clinc = (read(data / name) for name in ("sst2", "snips", "clinc150"))
    flips = {"positive": "negative", "negative": "positive"}
    flipped = {split: [{**row, "label": flips[row["label"]]} for row in held] for split, held in sst2.items()}
    coins = np.random.default_rng(1)
    drawn = {split: [{**row, "label": list(flips)[coins.integers(2)]} for row in held] for split, held in sst2.items()}
    known = sorted({row["label"] for row in clinc["train"]} - {"oos"})[:: 150 // CLINC_LABELS][:CLINC_LABELS]
    few = {split: [row for row in held if row["label"] in known] for split, held in clinc.items()}
    bbq = {
        split: [{"text": f"{row['context']} {row['question']}", "label": row["condition"]} for row in held]
        for split, held in read(data / "bbq").items()
    }
    logic: Rows = {"train": [], "validation": [], "test": []}
    for name in LOGIC:
        for split, held in read(data / name).items():
            logic[split] += [{"text": row["prompt"], "label": row["completion"]} for row in held]
    intents = {split: [{"text": row["text"], "label": row["intent"]} for row in held] for split, held in snips.items()}
    slots = {split: [{"tokens": row["tokens"], "tags": row["tags"]} for row in held] for split, held in snips.items()}
    yield TWIN, "classification", part(sst2, 0)
    yield FLIPPED, "classification", part(flipped, 1)
    yield RANDOM, "classification", part(drawn, 2)
    yield "intent", "classification", part(intents, 0)
    yield "slots", "token_classification", known_tags(part(slots, 1))
    yield "requests", "classification", cut(few)
    yield "entities", "token_classification", known_tags(part(read(data / "wnut17"), 0))
    yield "similarity", "similarity", part(read(data / "stsb"), 0)
    yield "ambiguity", "classification", cut(bbq)
    yield "logic", "classification", cut(logic)


def shuffled(rows: Rows) -> Rows:
    """Bring the rows of each split into an order that is drawn once."""
    orders = {split: np.random.default_rng(0).permutation(len(held)) for split, held in rows.items()}
    return {split: [rows[split][place] for place in order] for split, order in orders.items()}


def cut(rows: Rows) -> Rows:
    """Take the first rows of each split, in an order that is drawn once."""
    return {split: held[: TEST_ROWS if split == "test" else ROWS] for split, held in shuffled(rows).items()}


def known_tags(rows: Rows) -> Rows:
    """Leave out rows to be judged with tags that no training row has."""
    known = {tag for row in rows["train"] for tag in row["tags"]}
    return {split: [row for row in held if known.issuperset(row["tags"])] for split, held in rows.items()}


def write_data(data: Path, folder: Path, limit: int | None) -> dict[str, str]:
    """Write the tasks' rows; gives task -> type."""
    kinds = {}
    for name, kind, splits in tasks_of(data):
        kinds[name] = kind
        for split, rows in splits.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:limit])
            write_text(folder / name / f"{split}.jsonl", text)
    return kinds


def described(kinds: Mapping[str, str], names: Sequence[str], data: Path, seed: int, **training: Any) -> dict[str, Any]:
    """Describe the run of some tasks, each with its own rows in every step."""
    tasks = {
        name: {
            "type": kinds[name],
            "data": name,
            "max_length": LIMIT_TOKENS,
            "per_device_train_batch_size": ROWS_PER_STEP,
        }
        for name in names
    }
    return {
        "model": {
            "name_or_path": str(data.resolve().parent / "backbone"),
            "adapter": {"type": "lora", "r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        },
        "data_root": str(data.resolve()),
        "tasks": tasks,
        "training": {
            "max_steps": STEPS,
            "learning_rate": 1e-3,
            "eval_strategy": "no",
            "load_best_model_at_end": False,
            "save_strategy": "no",
            "seed": seed,
            **training,
        },
        "transfer": {"every_steps": PROBE_STEPS if len(names) > 2 else 0, "lookahead": len(names) > 2},
        "evaluation": {"splits": ["test"], "resamples": 100},
    }


def write_backbone(folder: Path) -> None:
    """Write the lower layers of the bundled encoder."""
    from transformers import AutoModel, AutoTokenizer

    from taskloom.model.bundled import bundled_folder

    source = bundled_folder()
    if source is None:
        raise SystemExit("Install the extra `offline`, which has the encoder.")
    AutoModel.from_pretrained(source, num_hidden_layers=LAYERS).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def train_one(values: dict[str, Any], folder: str) -> str:
    """Train one run in a process of its own, on one core."""
    import torch

    import taskloom

    torch.set_num_threads(1)
    taskloom.train(values, folder)
    return folder


def train_all(wanted: Mapping[Path, dict[str, Any]], workers: int) -> None:
    """Train what is not finished yet."""
    missing = {folder: values for folder, values in wanted.items() if not is_finished(folder)}
    print(f"{len(wanted)} runs, {len(missing)} to be trained", flush=True)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(train_one, values, str(folder)) for folder, values in missing.items()]
        for count, done in enumerate(as_completed(running), start=1):
            print(f"{count}/{len(missing)} {Path(done.result()).name}", flush=True)


def is_finished(folder: Path) -> bool:
    """Say whether a run is there to its end."""
    record = Record(folder)
    return record.state_json.is_file() and record.state.status == "finished"


def values_of(folder: Path) -> dict[str, float]:
    """Give each task's normalised test score by its own metric."""
    from taskloom.evaluation import build_metric

    found: dict[str, float] = {}
    for score in Record(folder).scores():
        if score.split == "test" and score.task != "composite" and score.task not in found:
            found[score.task] = float(build_metric(score.metric).normalise(np.array([score.value]))[0])
    return found


def seconds_of(folder: Path) -> float:
    """Give what the steps of a run took."""
    return float(sum(row.get("seconds", 0.0) for row in Record(folder).steps()))


def measured(names: Sequence[str], out: Path, seeds: Sequence[int]) -> dict[int, np.ndarray]:
    """Give for each seed what each pair's training did: [source, target]."""
    found = {}
    for seed in seeds:
        effect = np.full((len(names), len(names)), np.nan)
        alone = {name: values_of(out / f"{seed}-{name}")[name] for name in names}
        for one, other in itertools.combinations(names, 2):
            both = values_of(out / f"{seed}-{one}+{other}")
            i, j = names.index(one), names.index(other)
            effect[i, j], effect[j, i] = both[other] - alone[other], both[one] - alone[one]
        found[seed] = effect
    return found


def affordable(probes: Sequence[Probe], seconds: float, lookahead: bool) -> list[Probe]:
    """Give evenly spread probes that 5 % of the joint run's time pays for."""
    spent = sum(probe.seconds + (probe.ahead_seconds if lookahead else 0.0) for probe in probes) / len(probes)
    count = min(len(probes), max(1, int(BUDGET * seconds / spent)))
    return [probes[int((place + 0.5) * len(probes) / count)] for place in range(count)]


def judged(names: Sequence[str], out: Path, seeds: Sequence[int], truth: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """Hold every estimator against the measured matrix."""
    off = ~np.eye(len(names), dtype=bool)
    real = np.array([name not in {FLIPPED, RANDOM} for name in names])
    clean = off & np.outer(real, real)
    mean = np.mean(np.stack(list(truth.values())), axis=0)
    found: dict[str, Any] = {}
    for estimator in ESTIMATORS.names():
        method = ESTIMATORS.load(estimator)()
        for budget in ("5 %", "all"):
            entry: dict[str, Any] = {"all": [], "real": [], "harm_found": [], "probes": []}
            for seed in seeds:
                probes = read_probes(Record(out / f"{seed}-joint").transfer)
                if budget == "5 %":
                    whole = seconds_of(out / f"{seed}-joint") - sum(map(seconds_of_probe, probes))
                    probes = affordable(probes, whole, estimator == "lookahead")
                effect = estimate(probes, estimator, method).effect
                entry["all"].append(float(stats.spearmanr(effect[off], mean[off]).statistic))
                entry["real"].append(float(stats.spearmanr(effect[clean], mean[clean]).statistic))
                twin = names.index(TWIN)
                worst = int(np.nanargmin(effect[:, twin]))
                entry["harm_found"].append(names[worst] == FLIPPED and float(effect[worst, twin]) < 0)
                entry["probes"].append(len(probes))
            entry["interval"] = list(t_interval(entry["all"]))
            found[f"{estimator}, {budget}"] = entry
    return found


def seconds_of_probe(probe: Probe) -> float:
    """Give all that a probe took."""
    return probe.seconds + probe.ahead_seconds


def planned(names: Sequence[str], out: Path, truth: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """Value plans of two and three groups by each seed's probes, by what other seeds measured of pairs.

    Returns:
        estimator and K -> for each seed the plan's value, the best plan's, and mean and deviation of random plans'.
    """
    weights, generator, found = np.ones(len(names)), np.random.default_rng(0), {}
    for estimator, groups in itertools.product(ESTIMATORS.names(), (2, 3)):
        entry: dict[str, list[float]] = {"plan": [], "best": [], "random": [], "deviation": [], "above": []}
        for seed in truth:
            others = np.mean(np.stack([held for key, held in truth.items() if key != seed]), axis=0)
            effect = ESTIMATORS.load(estimator)().effect(read_probes(Record(out / f"{seed}-joint").transfer))
            plan = best_partitions(effect, weights)[groups - 1].groups
            random = np.array(
                [value_of(drawn, others, weights) for drawn in drawn_plans(len(names), groups, generator)]
            )
            value = value_of(plan, others, weights)
            best = best_partitions(others, weights)[groups - 1].value
            row = (value, best, float(random.mean()), float(random.std()), float((random < value).mean()))
            for key, number in zip(entry, row, strict=True):
                entry[key].append(number)
        found[f"{estimator}, {groups}"] = entry
    return found


def drawn_plans(tasks: int, groups: int, generator: np.random.Generator) -> Iterator[Groups]:
    """Draw random plans of so many groups, none of them empty."""
    for _ in range(RANDOM_PLANS):
        owner = generator.integers(0, groups, size=tasks)
        owner[generator.permutation(tasks)[:groups]] = np.arange(groups)
        yield tuple(tuple(np.flatnonzero(owner == group).tolist()) for group in range(groups))


def ceiling(correlations: Sequence[float]) -> float:
    """Give what a perfect prediction would correlate with the mean matrix, by how well seeds repeat each other.

    With ρ the reliability of one seed and n seeds, a seed correlates with the mean of the others by
    ``sqrt(ρ (n-1)ρ / (1 + (n-2)ρ))``, and the truth with the mean of all by ``sqrt(nρ / (1 + (n-1)ρ))``.
    """
    seeds, found = len(correlations), max(float(np.mean(correlations)), 0.0)
    square, others = found**2, seeds - 1
    half = square * (others - 1) / (2 * others)
    single = half + (half**2 + square / others) ** 0.5
    return float((seeds * single / (1 + (seeds - 1) * single)) ** 0.5)


def reliability(truth: Mapping[int, np.ndarray]) -> list[float]:
    """Give Spearman's correlation of each seed's measured matrix with the others' mean: what can be predicted."""
    found = []
    for seed, effect in truth.items():
        others = np.mean(np.stack([held for key, held in truth.items() if key != seed]), axis=0)
        off = ~np.eye(len(effect), dtype=bool)
        found.append(float(stats.spearmanr(effect[off], others[off]).statistic))
    return found


def main() -> None:
    """Train what is missing, compare, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    out, seeds = arguments.out, range(1 if arguments.quick else arguments.seeds)
    kinds = write_data(arguments.data, out / "data", 40 if arguments.quick else None)
    write_backbone(out / "backbone")
    names = [TWIN, FLIPPED, "intent"] if arguments.quick else list(kinds)
    training = {"max_steps": 10} if arguments.quick else {}
    groups = [[name] for name in names] + [list(pair) for pair in itertools.combinations(names, 2)]
    wanted = {}
    for seed in seeds:
        wanted[out / f"{seed}-joint"] = described(kinds, names, out / "data", seed, **training)
        for group in groups:
            wanted[out / f"{seed}-{'+'.join(group)}"] = described(kinds, group, out / "data", seed, **training)
    train_all(wanted, arguments.workers)
    truth = measured(names, out, seeds)
    scores = judged(names, out, seeds, truth)
    joint = sum(seconds_of(out / f"{seed}-joint") for seed in seeds)
    probes = [probe for seed in seeds for probe in read_probes(Record(out / f"{seed}-joint").transfer)]
    probing = sum(map(seconds_of_probe, probes))
    ground = sum(seconds_of(folder) for folder in wanted if not folder.name.endswith("-joint"))
    for name, entry in sorted(scores.items(), key=lambda each: -np.mean(each[1]["all"])):
        low, high = entry["interval"]
        told = f"{np.mean(entry['all']):+.2f} ({low:+.2f} … {high:+.2f}), real tasks {np.mean(entry['real']):+.2f}"
        print(f"{name:22} {told}, most harmful found in {sum(entry['harm_found'])} of {len(seeds)} seeds")
    repeats = reliability(truth) if len(truth) > 1 else []
    figures = {
        "tasks": list(names),
        "seeds": len(seeds),
        "measured": {str(seed): effect.tolist() for seed, effect in truth.items()},
        "estimators": scores,
        "reliability": repeats,
        "plans": planned(names, out, truth) if len(truth) > 1 else {},
        "ceiling": ceiling(repeats) if repeats else None,
        "seconds": {"joint": joint - probing, "all_probes": probing, "ground_truth": ground},
    }
    print(f"reliability {repeats}, ceiling {figures['ceiling']}; seconds {figures['seconds']}")
    if not arguments.quick:
        print(f"wrote {write('transfer', 'python benchmarks/transfer.py --data FOLDER', figures)}")


if __name__ == "__main__":
    main()
