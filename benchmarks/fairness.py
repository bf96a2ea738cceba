"""A planted group bias, and BBQ: how large the gap between groups is without mitigation, and with each.

    python benchmarks/fairness.py --data FOLDER     # both, 3 paired seeds; about twelve minutes on 2 cores
    python benchmarks/fairness.py                   # the planted bias alone
    python benchmarks/fairness.py --quick           # a few steps of one seed, to see that it works; writes nothing
    python benchmarks/fairness.py --write FOLDER    # the planted corpus as files, with a run file; trains nothing

FOLDER holds BBQ (Parrish et al., 2022, arXiv:2110.08193) as JSON lines in train, validation and test files, with the
columns context, question, choices, label, group and condition.

The planted corpus: each text is three remarks about a person, each of which agrees with the label with probability
0.75, so that no answer from the remarks is right more often than 0.844. In training and validation 85 % of those who
are taken are men and 85 % of those who are not are women, told by pronouns; in the test rows pronouns tell nothing. The
gap is that of equalised odds for the label "take"; the score is accuracy. "thresholds" are fitted on the validation
rows of the run without mitigation.

In BBQ the score is accuracy, and the gap that is mitigated is that between questions that the context answers and those
that it leaves open (`condition`); told besides is the gap between the five kinds of people that questions are about
(`group`). Of the mitigations group DRO alone is tried: both columns are evenly spread, so that there is nothing to
balance, and answers are a row's own choices, which have no labels to weigh.

Shown are score and gap with 95 % intervals over seeds (Student's t), and the paired differences to no mitigation. Two
runs go at a time, with one thread each. The figures go to benchmarks/results/fairness.json. With `--runs FOLDER` the
run folders are kept, and finished ones are not trained again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, write

import taskloom
from taskloom.config.document import dump
from taskloom.data.sources import read
from taskloom.data.swaps import Swaps
from taskloom.fairness.auditing import audit
from taskloom.fairness.swapping import swap
from taskloom.fairness.thresholds import fit_thresholds
from taskloom.gradients.conflict import interval
from taskloom.model.bundled import BUNDLED_NAME

SEEDS, PROCESSES = 3, 2
SIZES = {"train": 1000, "validation": 300, "test": 600}
AGREEMENT, BIAS = 0.75, 0.85
GOOD = (
    "keeps every appointment",
    "answers letters the same day",
    "explains hard things simply",
    "checks each figure twice",
    "helps new colleagues",
    "stays calm under pressure",
    "finishes ahead of time",
    "learns quickly from mistakes",
)
BAD = (
    "forgets appointments",
    "leaves letters unanswered",
    "makes simple things hard",
    "gets the figures wrong",
    "ignores new colleagues",
    "shouts under pressure",
    "finishes too late",
    "repeats old mistakes",
)
SWAPS = [["he", "she"]]
PLANTED: dict[str, dict[str, Any] | None] = {
    "none": None,
    "reweighing": {"method": "reweighing", "group": "who"},
    "balanced_sampling": {"method": "balanced_sampling", "group": "who"},
    "group_dro": {"method": "group_dro", "group": "who", "step_size": 0.1},
    "augmentation": {"method": "augmentation", "swaps": SWAPS},
}
BBQ: dict[str, dict[str, Any] | None] = {
    "none": None,
    "group_dro": {"method": "group_dro", "group": "condition", "step_size": 0.1},
}
ARMS = {"planted": PLANTED, "bbq": BBQ}
SETTINGS = {
    "planted": {"max_steps": 120, "per_device_train_batch_size": 16, "learning_rate": 1e-3},
    "bbq": {"max_steps": 80, "per_device_train_batch_size": 8, "learning_rate": 5e-4},
}
THRESHOLDS = "thresholds"


def planted_rows(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Make the planted corpus: split -> rows."""
    draw = np.random.default_rng(seed)
    seen: set[str] = set()
    rows: dict[str, list[dict[str, Any]]] = {}
    for split, count in SIZES.items():
        rows[split] = []
        while len(rows[split]) < count:
            taken = bool(draw.random() < 0.5)
            man = taken == (draw.random() < (0.5 if split == "test" else BIAS))
            said = [draw.permutation(len(GOOD))[:3], draw.permutation(len(BAD))[:3]]
            good = [taken == (draw.random() < AGREEMENT) for _ in range(3)]
            remarks = [GOOD[said[0][place]] if each else BAD[said[1][place]] for place, each in enumerate(good)]
            text = " ".join(f"{'He' if man else 'She'} {remark}." for remark in remarks)
            row = {"text": text, "label": "take" if taken else "leave", "who": "man" if man else "woman"}
            if text not in seen:  # no text stands in two splits
                rows[split].append(row)
                seen.add(text)
    return rows


def bbq_rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Read BBQ: split -> rows."""
    return {split: [record.row for record in records] for split, records in read("bbq", str(folder)).items()}


def config_of(name: str, arm: str, seed: int, steps: int | None) -> dict[str, Any]:
    """Describe one run."""
    kind = {"planted": "classification", "bbq": "multiple_choice"}[name]
    task = {"type": kind, "data": "memory", "max_length": 128, "fairness": ARMS[name][arm]}
    training = SETTINGS[name] | ({"max_steps": steps} if steps else {})
    return {
        "model": {"name_or_path": BUNDLED_NAME, "adapter": {"type": "lora", "r": 16}},
        "tasks": {name: task},
        "training": {**training, "eval_strategy": "no", "save_strategy": "no", "seed": seed},
        "evaluation": {"resamples": 1000, "splits": ["validation", "test"] if name == "planted" else ["test"]},
    }


def trained(
    name: str, arm: str, seed: int, rows: dict[str, list[dict[str, Any]]], folder: Path, steps: int | None
) -> list[dict[str, Any]]:
    """Train one run and look at its groups; without mitigation, also with thresholds by group."""
    started = time.perf_counter()
    out, given = folder / f"{name}-{arm}-{seed}", {name: rows}
    taskloom.train(config_of(name, arm, seed, steps), out, rows=given)
    seconds = time.perf_counter() - started
    if name == "bbq":
        found, people = (audit(out, name, [column], rows=given) for column in ("condition", "group"))
        gap, other = found.gaps[0], people.gaps[0]
        groups = {group: each.value for held in (found, people) for group, each in held.scores[0].groups.items()}
        facts = {"score": found.scores[0].whole.value, "gap": gap.difference.value, "shown": gap.shown}
        facts |= {"worst": min(groups.values()), "people": other.difference.value, "people_shown": other.shown}
        return [{"name": name, "arm": arm, "seed": seed, **facts, "groups": groups, "seconds": seconds}]
    found = audit(out, name, ["who"], positive="take", rows=given)
    odds = found.parity[0].equalised_odds
    assert odds is not None
    flips = swap(out, name, Swaps(SWAPS)).flipped
    assert flips is not None
    worst = min(each.value for each in found.scores[0].groups.values())
    facts = {"score": found.scores[0].whole.value, "gap": odds.difference.value, "shown": odds.shown, "worst": worst}
    lines = [{"name": name, "arm": arm, "seed": seed, **facts, "flips": flips.value, "seconds": seconds}]
    if arm == "none":
        side = fit_thresholds(out, name, ["who"], "equalized_odds", positive="take", rows=given).after
        odds = side.parity.equalised_odds
        assert odds is not None
        facts = {"score": side.scores.whole.value, "gap": odds.difference.value, "shown": odds.shown}
        worst = min(each.value for each in side.scores.groups.values())
        lines.append({"name": name, "arm": THRESHOLDS, "seed": seed, **facts, "worst": worst, "seconds": 0.0})
    return lines


def write_corpus(folder: Path) -> None:
    """Write the planted corpus of seed 0, a run file for it without mitigation, and words to swap."""
    (folder / "letters").mkdir(parents=True, exist_ok=True)
    for split, rows in planted_rows(0).items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "letters" / f"{split}.jsonl").write_text(text, encoding="utf-8")
    values = config_of("planted", "none", 0, None)
    task = {key: value for key, value in values.pop("tasks")["planted"].items() if value is not None}
    values["tasks"] = {"letters": {**task, "data": str(folder / "letters")}}
    (folder / "run.yaml").write_text(dump(values), encoding="utf-8")
    (folder / "words.yaml").write_text("- [he, she]\n", encoding="utf-8")


def summary(arm: str, held: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, Any]:
    """Gather an arm's seeds, and compare them with those of no mitigation."""
    found: dict[str, Any] = {"arm": arm, "shown": sum(each["shown"] for each in held)}
    if "groups" in held[0]:
        found["groups"] = {key: float(np.mean([each["groups"][key] for each in held])) for key in held[0]["groups"]}
        found["people_shown"] = sum(each["people_shown"] for each in held)
    for key in ("score", "gap", "worst", "flips", "people"):
        if all(key in each for each in held):
            values = [each[key] for each in held]
            spread = interval(values)
            found[key] = {"values": values, "mean": [spread.mean, spread.low, spread.high]}
            if all(key in each for each in base):
                spread = interval([each[key] - other[key] for each, other in zip(held, base, strict=True)])
                found[key]["difference"] = [spread.mean, spread.low, spread.high]
    return found


def main() -> None:
    """Train all arms on all seeds, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", help="arms, to try some alone; writes nothing")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    if arguments.write:
        write_corpus(arguments.write)
        return
    print(json.dumps(machine()))
    os.environ["OMP_NUM_THREADS"] = "1"  # read by each process that starts from here on
    seeds, steps = (1, 4) if arguments.quick else (arguments.seeds, None)
    bbq = bbq_rows(arguments.data) if arguments.data else None
    if bbq and arguments.quick:
        bbq = {split: rows[:60] for split, rows in bbq.items()}
    spawned = multiprocessing.get_context("spawn")
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(PROCESSES, spawned) as pool:
        folder = arguments.runs or Path(scratch)
        jobs = [
            (name, arm, seed, bbq if name == "bbq" else planted_rows(seed), folder, steps)
            for name, arms in ARMS.items()
            if name == "planted" or bbq
            for seed in range(seeds)
            for arm in arms
            if not arguments.only or arm in arguments.only
        ]
        for lines in pool.map(trained, *zip(*jobs, strict=True)):
            for line in lines:
                found.setdefault(line["name"], {}).setdefault(line["arm"], []).append(line)
                print(line, flush=True)
    figures = {
        name: [summary(arm, held, arms.get("none", held)) for arm, held in arms.items()] for name, arms in found.items()
    }
    for name, arms in figures.items():
        for row in arms:
            score, gap = row["score"]["mean"], row["gap"]["mean"]
            print(f"{name:8} {row['arm']:18} score {score[0]:.3f}  gap {gap[0]:.3f} ({gap[1]:.3f} … {gap[2]:.3f})")
    if not arguments.quick and not arguments.only and arguments.seeds >= SEEDS and bbq:
        settings = {"settings": SETTINGS, "rows": SIZES, "bias": BIAS, "agreement": AGREEMENT}
        print(f"wrote {write('fairness', 'python benchmarks/fairness.py --data FOLDER', settings | figures)}")


if __name__ == "__main__":
    main()
