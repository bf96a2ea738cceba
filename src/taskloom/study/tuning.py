"""Trials before a study: the same number for every arm, by Optuna, judged on validation rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from taskloom.errors import MissingExtraError
from taskloom.record import Record, read_note, write_json
from taskloom.run import train
from taskloom.study.budget import Budget
from taskloom.study.description import Arm, Study, TuningSection
from taskloom.study.members import Member, digest_of, member_values

FILE, FOLDER, VERSION = "tuning.json", "trials", 1


class Pruning(TrainerCallback):
    """Ends a trial whose validation composite falls behind those of earlier ones at the same step.

    Args:
        trial: Optuna's.
    """

    def __init__(self, trial: Any) -> None:
        self.trial = trial
        self.pruned = False

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Report, and stop where Optuna says so."""
        composite = (metrics or {}).get("eval_composite")
        if composite is not None and state.global_step < state.max_steps:
            self.trial.report(composite, state.global_step)
            self.pruned = self.pruned or self.trial.should_prune()
            control.should_training_stop = control.should_training_stop or self.pruned


def tuned(study: Study, budget: Budget, folder: Path, console: Console) -> dict[str, Any]:
    """Find the best settings of every arm, at the same number of trials for each.

    Trials have the study's first seed and a share of its steps, and are judged by the validation composite; test rows
    play no part. Trials that were made before are not made again.

    Args:
        study: with `tuning` in its file.
        budget: of the study.
        folder: the study's.
        console: gets a line for each trial.

    Returns:
        arm -> ``best`` (dotted key -> value) and ``trials`` (settings, composite, whether pruned).

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "study", "tune the runs of a study") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    section = study.section.tuning
    assert section is not None
    found: dict[str, Any] = read_note(folder / FILE).get("arms", {})
    for arm in study.arms:
        asked = digest_of({"arm": asdict(arm), "tuning": section.model_dump(), "budget": asdict(budget)})
        if found.get(arm.name, {}).get("asked") == asked or arm.merge is not None:
            continue
        sampler = optuna.samplers.TPESampler(seed=study.seeds[0], n_startup_trials=max(2, section.trials // 2))
        pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
        search = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        trials: list[dict[str, Any]] = []
        for _ in range(section.trials):
            trial = search.ask()
            settings = {key: _suggested(trial, key, values) for key, values in section.parameters.items()}
            composite, pruned = _tried(arm, settings, trial, study, section, budget, folder)
            search.tell(trial, None if pruned else composite,
                        state=optuna.trial.TrialState.PRUNED if pruned else None)  # fmt: skip
            trials.append({"settings": settings, "composite": composite, "pruned": pruned})
            console.print(f"{arm.name}: trial {len(trials)} of {section.trials}: {composite:.3f}", highlight=False)
        best = max((each for each in trials if not each["pruned"]), key=_worth)
        found[arm.name] = {"asked": asked, "best": best["settings"], "trials": trials}
        write_json(folder / FILE, {"version": VERSION, "arms": found})
    return found


def _worth(trial: Mapping[str, Any]) -> float:
    """Give a trial's composite; one that is not a number is worse than all."""
    composite = float(trial["composite"])
    return -math.inf if math.isnan(composite) else composite


def _suggested(trial: Any, key: str, values: list[Any]) -> Any:
    """Draw a value: between two numbers by their logarithm, or one of a list."""
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(values) == 2 and len(numbers) == 2 and min(values) > 0:
        low, high = sorted(values)
        whole = all(isinstance(each, int) for each in values)
        return trial.suggest_int(key, low, high, log=True) if whole else trial.suggest_float(key, low, high, log=True)
    return trial.suggest_categorical(key, values)


def _tried(
    arm: Arm,
    settings: Mapping[str, Any],
    trial: Any,
    study: Study,
    section: TuningSection,
    budget: Budget,
    folder: Path,
) -> tuple[float, bool]:
    """Train an arm's runs for a share of the steps; gives the mean validation composite, and whether it was pruned.

    Of an arm of several models only the first reports on the way: a trial is cut short as a whole.
    """
    composites, pruned = [], False
    for place, group in enumerate(arm.groups):
        member = Member(arm.name, group, {**settings, **arm.overrides}, study.seeds[0])
        values = member_values(study.base, member, budget)
        steps = max(1, round(values["training"]["max_steps"] * section.share))
        values["training"] |= {"max_steps": steps, "save_strategy": "no", "load_best_model_at_end": False}
        values["evaluation"]["splits"] = ["validation"]
        callbacks = [Pruning(trial)] if place == 0 else []
        path = folder / FOLDER / digest_of(values)
        train(values, path, callbacks=callbacks)
        record = Record.open(path)
        if callbacks and record.state.step < steps:
            pruned = True
        composites.append(_composite(record))
        if pruned:
            break
    return sum(composites) / len(composites), pruned


def _composite(record: Record) -> float:
    return next(each.value for each in record.scores() if each.task == "composite")
