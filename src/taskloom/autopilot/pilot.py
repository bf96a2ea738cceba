"""The procedure: tasks alone, tasks together, what ails whom, what helps, what is sure, what is shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from taskloom.autopilot.decision import Candidate, Decision, as_row, decide
from taskloom.autopilot.diagnosis import Diagnosis, Evidence, diagnose, judge_poison
from taskloom.autopilot.evidence import SPLIT, gather
from taskloom.autopilot.halving import Rung, cost_of_rungs, finalists, rungs, survivors
from taskloom.autopilot.ledger import Ledger, cost_of
from taskloom.autopilot.profile import TaskProfile, profile, seeds_for_a_claim
from taskloom.autopilot.remedies import Remedy, remedies, shortened
from taskloom.autopilot.shipping import ship
from taskloom.config import Config
from taskloom.errors import ConfigError, Fault, RunFolderError
from taskloom.record import VERSION, Record, read_note, write_json
from taskloom.run import ConfigLike, as_config
from taskloom.statistics import verdicts
from taskloom.study.budget import Budget
from taskloom.study.comparison import over_examples, scores_of
from taskloom.study.description import JOINT, SINGLE, Arm
from taskloom.study.members import train_members
from taskloom.study.running import members_of, records_of

FILE = "auto.json"
BOTH = {"evaluation.splits": [SPLIT, "test"]}
"""What every run is scored on: all is decided by validation rows, and test rows are looked at once, at the end."""

LEAST_UNITS = 2.0
RECORDS = 20
"""How often conflict is recorded in the joint run."""

Records = dict[tuple[str, int], Record]


class Pilot:
    """One course of the procedure.

    Args:
        base: the run of all tasks.
        units: the budget, in units of training every task alone once.
        folder: where everything goes.
        margin: a difference of scores that does not matter.
        workers: runs side by side.
        console: where it tells what it does.
    """

    def __init__(
        self, base: Config, units: float, folder: Path, *, margin: float, workers: int, console: Console
    ) -> None:
        self.base, self.folder, self.margin = base, folder, margin
        self.workers, self.console = workers, console
        self.ledger = Ledger(units)
        self.budget = Budget.of(base)
        self.seed = int(base.training["seed"])
        self.records: Records = {}
        tasks = tuple(base.tasks)
        self.clean = tasks
        self._screens: Records = {}
        record = {"balance.record_steps": max(1, self.budget.steps // RECORDS)}
        self.single = Arm(SINGLE, tuple((name,) for name in tasks), BOTH)
        self.joint = Arm(JOINT, (tasks,), {**BOTH, **record})
        self.story: list[str] = []
        self.gains: dict[str, tuple[float, float]] = {}

    def run(self) -> dict[str, Any]:
        """Go through it, and write what came of it."""
        profiled = profile(self.base)
        self._tell_before(profiled)
        if not self._train("alone", self.single, self.seed) or not self._train("joint", self.joint, self.seed):
            raise ConfigError(_too_small(self.ledger.units))
        evidence, found = self._diagnosed(profiled)
        tried = remedies(found, self.base, self.budget)
        arms = [self.joint, *self._finalists(self._screened(tried))]
        seeds = self._confirmed(arms)
        found = self._judged(found, tried, arms, seeds)
        candidates = [self._candidate(arm, seeds) for arm in arms]
        decision = decide(candidates, self.clean, self._weights(), self.margin)
        self._say(f"Ships `{decision.arm}`: {decision.reason}.")
        chosen = next(arm for arm in arms if arm.name == decision.arm)
        sources = self._sources(chosen, decision)
        unlearnable = [name for name in self.base.tasks if name not in self.clean]
        shipped = ship(self.folder, sources, decision.arm, unlearnable)
        for name in unlearnable:
            self._say(f"{name}: nothing answers it better than a constant, and neither does what is shipped.")
        outcome = self._outcome(evidence, found, tried, arms, seeds, decision, shipped)
        outcome["profile"] = [asdict(each) for each in profiled]
        write_json(self.folder / FILE, outcome)
        return read_note(self.folder / FILE)

    # --- steps ------------------------------------------------------------------------------------------------------

    def _diagnosed(self, profiled: Sequence[TaskProfile]) -> tuple[list[Evidence], list[Diagnosis]]:
        """Hold the joint run against each task alone, and tell what ails whom."""
        alone = {name: self._record(self.single, name, self.seed) for name in self.base.tasks}
        evidence = gather(self.base, alone, self.records[JOINT, self.seed], profiled)
        found = [each for each in (diagnose(one, self.margin) for one in evidence) if each is not None]
        unlearnable = {each.task for each in found if each.cause == "unlearnable"}
        self.clean = tuple(name for name in self.base.tasks if name not in unlearnable)
        self._tell_of(evidence, found)
        return evidence, found

    def _judged(
        self, found: Sequence[Diagnosis], tried: Sequence[Remedy], arms: Sequence[Arm], seeds: Sequence[int]
    ) -> list[Diagnosis]:
        """Tell which tasks that cannot be learned are poison: whether the others do better without."""
        weights, judged = self._weights(), []
        for each in found:
            name = next((one.arm.name for one in tried if one.task == each.task), "")
            if each.cause == "unlearnable":
                whole = next((arm for arm in arms if arm.name == name), None)
                gain, share = self.gains.get(name, (None, 1.0))
                if whole is not None:
                    mine, theirs = (self._differences(arm, seeds, SPLIT) for arm in (whole, self.joint))
                    gain = sum(weights[task] * float((mine[task] - theirs[task]).mean()) for task in mine)
                    gain, share = gain / (sum(weights.values()) or 1.0), 1.0
                judged.append(judge_poison(each, gain, self.margin, share))
                self._say(f"{each.task}: {judged[-1].reason.rpartition('; ')[2]}.")
            else:
                judged.append(each)
        return judged

    def _train(self, step: str, arm: Arm, seed: int, share: float = 1.0) -> bool:
        """Train an arm's runs, where the budget lasts; says whether it did."""
        known = set(self.base.tasks) if (SINGLE, seed) in self.records and share == 1.0 else set()
        cost = cost_of(arm.groups, self.budget.rows, share, known)
        if not self.ledger.affords(cost):
            self._say(f"`{arm.name}` (seed {seed}) would cost {cost:.2f} units, more than is left.")
            return False
        rows = {name: count * share for name, count in self.budget.rows.items()}
        budget = replace(self.budget, steps=max(1, round(self.budget.steps * share)), rows=rows)
        members = members_of(shortened(arm, share), seed)
        made = train_members(self.base, members, self.folder, budget=budget, workers=self.workers, console=self.console)
        if share == 1.0:
            self.records |= made
            self.records[arm.name, seed] = next(iter(made.values()))
        worst = ""
        if share == 1.0 and arm.name != SINGLE:
            lost = {name: float(each.mean()) for name, each in self._differences(arm, [seed], SPLIT).items()}
            name = min(lost, key=lambda each: lost[each])
            worst = f"worst task against itself alone: {name} {lost[name]:+.3f}"
        self.ledger.note(step, arm.name, seed, cost, worst)
        self._screens = made
        self._write_progress()
        return True

    def _screened(self, tried: Sequence[Remedy]) -> list[Arm]:
        """Screen remedies by successive halving beside the joint run, at one seed; gives the best that beat it.

        One unit is left for the best of them. Where that leaves too little to screen with, the arm of all remedies goes
        on without.
        """
        arms = {each.arm.name: replace(each.arm, overrides={**each.arm.overrides, **BOTH}) for each in tried}
        planned = rungs(len(arms), self.budget.steps)
        if not arms or not self.ledger.affords(cost_of_rungs(planned, len(arms)) + 1):
            if len(arms) > 1:
                self._say(f"The budget does not last to screen: `{tried[-1].arm.name}` goes on without.")
            return list(arms.values())[-1:]
        left = list(arms)
        for rung in planned:
            left = self._rung([arms[name] for name in left], rung)
        return [arms[name] for name in left]

    def _rung(self, arms: Sequence[Arm], rung: Rung) -> list[str]:
        """Train arms for a share of the steps beside the joint run; gives those that go on, the best first."""
        self._train("screen", self.joint, self.seed, rung.share)
        reached = {JOINT: self._reached(self.joint)}
        for arm in arms:
            self._train("screen", arm, self.seed, rung.share)
            reached[arm.name] = self._reached(arm)
            self.gains[arm.name] = (reached[arm.name] - reached[JOINT], rung.share)
            result = f"{self.gains[arm.name][0]:+.3f} against `{JOINT}` at {rung.share:.0%} of the steps"
            self._say(f"`{arm.name}`: {result}.")
            self.ledger.annotate(result)
        return survivors(reached, JOINT, rung.kept)

    def _finalists(self, arms: Sequence[Arm]) -> list[Arm]:
        """Train the best remedies to their end, as many as pay."""
        known = set(self.base.tasks)
        costs = [cost_of(arm.groups, self.budget.rows, 1.0, known) for arm in arms]
        count = finalists(costs, 2.0, self.ledger.units - self.ledger.spent)
        return [arm for arm in arms[:count] if self._train("train", arm, self.seed)]

    def _reached(self, arm: Arm) -> float:
        """Give the weighted mean of an arm's validation scores at the quarter it was just trained for."""
        weights = self._weights()
        values = {}
        for name in self.base.tasks:
            (record,) = records_of(arm, name, [self.seed], self._screens)
            values[name] = float(scores_of([record], name, SPLIT).scores[0])
        return sum(weights[name] * value for name, value in values.items()) / (sum(weights.values()) or 1.0)

    def _confirmed(self, arms: Sequence[Arm]) -> list[int]:
        """Train further seeds of every arm and of each task alone, while the budget lasts; gives all seeds."""
        seeds = [self.seed]
        while True:
            seed = seeds[-1] + 1
            held = [self.single, *arms]
            known: set[str] = set()
            cost = 0.0
            for arm in held:
                cost += cost_of(arm.groups, self.budget.rows, 1.0, known)
                known = set(self.base.tasks)
            if not self.ledger.affords(cost):
                break
            for arm in held:
                self._train("confirm", arm, seed)
            seeds.append(seed)
        self._say(f"{len(seeds)} paired seed{'s' * (len(seeds) > 1)} of {len(arms)} arm{'s' * (len(arms) > 1)}.")
        return seeds

    def _candidate(self, arm: Arm, seeds: Sequence[int]) -> Candidate:
        return Candidate(arm.name, self._differences(arm, seeds, SPLIT), len(arm.groups))

    def _differences(self, arm: Arm, seeds: Sequence[int], split: str) -> dict[str, Any]:
        """Give how much better an arm is than each task alone: task -> [seed]."""
        return {
            name: scores_of(records_of(arm, name, seeds, self.records), name, split).scores
            - scores_of(records_of(self.single, name, seeds, self.records), name, split).scores
            for name in self.base.tasks
        }

    def _sources(self, arm: Arm, decision: Decision) -> dict[str, Record]:
        """Give the run that answers for each task."""
        return {
            name: self._record(self.single if name in decision.single else arm, name, self.seed)
            for name in self.base.tasks
        }

    def _intervals(self, arm: Arm, seeds: Sequence[int], single: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Give the interval of each task's difference on test rows from itself alone, over seeds and rows."""
        settings, found = self.base.evaluation, {}
        for name in self.base.tasks:
            mine, alone = (records_of(each, name, seeds, self.records) for each in (arm, self.single))
            metric, count = scores_of(alone, name).metric, settings.resamples
            held = over_examples(mine, alone, name, metric, resamples=count, confidence=settings.confidence)
            if held is not None:
                found[name] = (0.0, 0.0) if name in single else (held.low, held.high)
        return found

    # --- words ------------------------------------------------------------------------------------------------------

    def _record(self, arm: Arm, name: str, seed: int) -> Record:
        return records_of(arm, name, [seed], self.records)[0]

    def _weights(self) -> dict[str, float]:
        """Give the importance of tasks whose labels can be learned; those of others are left out of every composite."""
        tasks = self.base.tasks
        return {name: section.importance if name in self.clean else 0.0 for name, section in tasks.items()}

    def _say(self, text: str) -> None:
        self.story.append(text)
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def _write_progress(self) -> None:
        """Write what was tried so far, so that a run that is killed says what it had come to."""
        held = {"units": self.ledger.units, "spent": round(self.ledger.spent, 3), "ledger": self.ledger.as_rows()}
        write_json(self.folder / FILE, {"version": VERSION, "status": "running", **held, "story": list(self.story)})

    def _tell_before(self, profiled: Sequence[TaskProfile]) -> None:
        for each in profiled:
            labels = f", {each.labels} labels" if each.labels else ""
            labels += f" of entropy {each.entropy:.2f}" if each.entropy is not None else ""
            self._say(
                f"{each.task}: {each.rows['train']} training rows of {each.tokens} tokens{labels}; one seed could show "
                f"{each.detectable:.3f} on {each.rows.get('validation', 0)} validation rows"
            )
            for warning in each.warnings:
                self._say(f"{each.task}: {warning}.")
        needed = seeds_for_a_claim(len(profiled))
        if 2 * needed > self.ledger.units:
            self._say(
                f"A claim that any of {len(profiled)} tasks is helped or harmed takes {needed} paired seeds, "
                f"{2 * needed}x for the joint run alone; {self.ledger.units:g}x finds causes and a model to ship, "
                f"and claims nothing."
            )

    def _tell_of(self, evidence: Sequence[Evidence], found: Sequence[Diagnosis]) -> None:
        for each in evidence:
            known = f"alone {each.alone:.3f}, with all others {each.together:.3f}"
            self._say(f"{each.task}: {known} ({each.low:+.3f} … {each.high:+.3f} over validation rows)")
        for told in found:
            self._say(f"{told.task} is {told.cause}: {told.reason}.")
        if not found:
            self._say("No task loses by more than the margin, and none lacks rows: nothing is to be tried.")

    def _outcome(
        self,
        evidence: Sequence[Evidence],
        found: Sequence[Diagnosis],
        tried: Sequence[Remedy],
        arms: Sequence[Arm],
        seeds: Sequence[int],
        decision: Decision,
        shipped: Mapping[str, str],
    ) -> dict[str, Any]:
        chosen = next(arm for arm in arms if arm.name == decision.arm)
        test = self._differences(chosen, seeds, "test")
        kept = {name: np.zeros(len(seeds)) if name in decision.single else each for name, each in test.items()}
        ends = self._intervals(chosen, seeds, decision.single)
        told = verdicts({name: each.tolist() for name, each in kept.items()}, intervals=ends)
        claim = told[0].word != "cannot tell"
        if not claim:
            needed = seeds_for_a_claim(len(told))
            price = self.ledger.spent + (needed - len(seeds)) * (1 + len(arms))
            self._say(
                f"{len(seeds)} paired seed{'s' * (len(seeds) > 1)} cannot tell whether a task is harmed or helped: "
                f"that would take {needed} seeds, a budget of about {price:.0f}x."
            )
        return {
            "version": VERSION,
            "status": "finished",
            "units": self.ledger.units,
            "spent": round(self.ledger.spent, 3),
            "margin": self.margin,
            "seeds": list(seeds),
            "evidence": [asdict(each) for each in evidence],
            "causes": [asdict(each) for each in found],
            "remedies": [{"arm": each.arm.name, "against": each.against} for each in tried],
            "ledger": self.ledger.as_rows(),
            "decision": as_row(decision),
            "shipped": dict(shipped),
            "test": [each.as_row() for each in told],
            "claim": claim,
            "story": list(self.story),
        }


def _too_small(units: float) -> Fault:
    fix = f"Training each task alone takes 1x and all together 1x: give `{LEAST_UNITS:g}x` or more"
    return Fault("--budget", f"be {LEAST_UNITS:g}x at least", f"`{units:g}x`", fix)


def auto(
    config: ConfigLike,
    out: str | Path,
    *,
    budget: float = 3.0,
    margin: float = 0.01,
    assignments: Sequence[str] = (),
    workers: int = 1,
    console: Console | None = None,
) -> dict[str, Any]:
    """Find out which tasks ail, try what helps, and ship what harms none; called again, it goes on where it stopped.

    Args:
        config: a run file's path, a mapping, or a `Config`, of two tasks at least, each with validation rows.
        out: where everything goes.
        budget: in units of training every task alone once.
        margin: a difference of normalised scores that does not matter.
        assignments: ``a.b=value`` overrides.
        workers: runs side by side.
        console: where it tells what it does.

    Returns:
        what `FILE` in the folder holds: ``evidence``, ``causes``, ``ledger`` with the cost of every arm, ``decision``,
        ``shipped`` (task -> folder of the model that answers for it) and ``test``, which was not looked at before.

    Raises:
        ConfigError: there is one task alone, or the budget does not last for the two first steps.
        RunFolderError: the folder holds other things.
    """
    base, folder = as_config(config, assignments), Path(out)
    if len(base.tasks) < 2:
        raise ConfigError(Fault("tasks", "be two at least", "one", "Train it with `taskloom train`"))
    if budget < LEAST_UNITS:
        raise ConfigError(_too_small(budget))
    if folder.exists() and any(folder.iterdir()) and not (folder / "members").is_dir():
        fix = "Name a new folder, so that nothing of yours is written over"
        raise RunFolderError(Fault(str(out), "be a folder of `taskloom auto`, or one to be made", "other files", fix))
    pilot = Pilot(base, budget, folder, margin=margin, workers=workers, console=console or Console(quiet=True))
    return pilot.run()
