"""A prepared run with its model: what training, its rehearsal and evaluation share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from taskloom.balance import BALANCES
from taskloom.composite import Composite, build_composite
from taskloom.config import Config
from taskloom.config.schema import BalanceSection
from taskloom.curriculum import begin_curriculum
from taskloom.data.cache import Items
from taskloom.errors import ConfigError, Fault
from taskloom.evaluation import Predictor, quick_composite, quick_scores, score_split
from taskloom.gradients import Balancer
from taskloom.gradients.ranks import rank
from taskloom.metrics import METRICS
from taskloom.model import MultiTaskModel, build_model, check_packing, save_model
from taskloom.model.start import Taken, start_from
from taskloom.policy import Decision, Policies
from taskloom.prediction import prediction_line
from taskloom.preparation import Prepared, check_lengths
from taskloom.record import Record
from taskloom.references import add_references
from taskloom.teaching.distillation import begin_distillation
from taskloom.teaching.labelling import Labelling, check_labelling
from taskloom.training.adaptation import Adaptation
from taskloom.training.arguments import Length, check_devices, fetched_ahead, run_length, training_arguments
from taskloom.training.balancing import Balancing
from taskloom.training.checkpoints import last_checkpoint
from taskloom.training.objective import Objective
from taskloom.training.trainer import Trainer
from taskloom.transfer import TransferProbe, probe_schedule
from taskloom.types import Item, Prediction, Row, Score

VALIDATION_ROWS = 256
"""Validation rows of each task whose losses policies see."""


@dataclass
class _First:
    """The first items of a split."""

    items: Items
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        return self.items[index]


class Session:
    """A prepared run with its model: what training, its rehearsal and evaluation share.

    Args:
        config: the run.
        prepared: its data.
        folder: where checkpoints go.
        model: a model that is trained already; None builds one.

    Attributes:
        taken: what the model took over from another run; None where it begins afresh, or goes on.
    """

    def __init__(self, config: Config, prepared: Prepared, folder: Path, model: MultiTaskModel | None = None) -> None:
        self.config = config
        self.prepared = prepared
        self.evaluates = all("validation" in items for items in prepared.items.values())
        self.arguments = training_arguments(config.training, folder, evaluates=self.evaluates)
        check_devices(self.arguments.n_gpu)
        self.length: Length = run_length(self.arguments, prepared.training_items(), prepared.rows())
        self.steps = prepared.plan(self.length, fetched_ahead(self.arguments))
        self.model = model or build_model(config.model, prepared.tasks, seed=config.training["seed"])
        self.taken: Taken | None = None
        if model is None and config.model.start_from and last_checkpoint(folder) is None:
            self.taken = start_from(self.model, prepared.tasks, config.model.start_from, config.model)
        self.model.shared_updates = {name: section.shared_update for name, section in config.tasks.items()}
        check_lengths(config, prepared.tasks, self.model.places())
        check_labelling(config, prepared.tasks, self.arguments.eval_strategy != "no")
        if config.batching.packing and model is None:
            check_packing(self.model, prepared.longest(), prepared.padding, config.model.name_or_path)

    def objective(self) -> Objective:
        """Make the objective of the run's weights and mixture."""
        weights = {name: section.weight for name, section in self.config.tasks.items()}
        accumulation = self.arguments.gradient_accumulation_steps
        expected = {name: rows * accumulation for name, rows in self.steps.plan.expected(0).items()}
        balance = self.config.balance
        reduction, by_choices = balance["reduction"], balance["scale_by_log_labels"]
        options = {"reduction": reduction, "by_choices": by_choices, "mitigations": self.prepared.mitigations}
        return Objective(self.prepared.tasks, weights, expected, **options)

    def balancer(self) -> Balancer:
        """Make the balancer of the run's method over the backbone's parameters; heads are each task's own.

        Raises:
            ConfigError: several processes train, and their statistics would not add up.
        """
        section, tasks = self.config.balance, self.config.tasks
        if section["statistic"] == "gramian" and self.arguments.world_size > 1:
            found = f"`gramian` in {self.arguments.world_size} processes, which do not add up to one"
            fix = "Write `sketch`, or `auto`"
            raise ConfigError(Fault("balance.statistic", "add up over the processes of a run", found, fix))
        self.model.to(self.arguments.device)  # what is kept of gradients lies beside them
        shared = self.model.shared_parameters()
        private = {name: self.model.private_parameters(name) for name in tasks}
        if (self.config.model.sharing or {}).get("balance_loss"):
            self._refuse_balance_loss()
        if not any(parameter.requires_grad for _, parameter in shared):
            self._refuse_gradient_methods()
            shared, private = list(self.model.backbone.named_parameters()), {}
        options = {key: value for key, value in section.items() if key not in BalanceSection.model_fields}
        training = self.config.training
        betas = (training["adam_beta1"], training["adam_beta2"])
        moments = {"betas": betas, "eps": training["adam_epsilon"]} if section["separate_moments"] else None
        return Balancer(
            shared,
            list(tasks),
            BALANCES.load(section["method"])(**options),
            preference={name: task.weight for name, task in tasks.items()},
            private=private,
            statistic=section["statistic"],
            weights_from=section["weights_from"],
            sketch_size=section["sketch_size"],
            seed=training["seed"],
            moments=moments,
        )

    def _refuse_balance_loss(self) -> None:
        """Refuse a balance loss of experts where each task's gradient is looked at: it is no single task's."""
        method = self.config.balance["method"]
        if BALANCES.load(method).needs not in {"nothing", "losses"} or self.prepared.record_steps():
            requirement, found = "be 0 where tasks' gradients are looked at", f"`{method}`, or recorded conflict"
            source = self.config.document.source(("model", "sharing", "balance_loss"))
            raise ConfigError(Fault("model.sharing.balance_loss", requirement, found, source=source))

    def _refuse_gradient_methods(self) -> None:
        """Refuse a method that looks at what the tasks' gradients have in common, where that is nothing."""
        method, sharing = self.config.balance["method"], self.config.model.sharing or {}
        if BALANCES.load(method).needs not in {"nothing", "losses"}:
            requirement = "look at no gradients where the tasks train no parameter together"
            found = f"`{method}` with `model.sharing.scheme: {sharing.get('scheme')}`"
            source = self.config.document.source(("balance", "method"))
            raise ConfigError(Fault("balance.method", requirement, found, "Write `equal`", source))

    def balancing(self, tell: Callable[[str], None] = lambda text: None) -> Balancing:
        """Make what the Trainer does about balance."""
        section = self.config.balance
        return Balancing(
            self.balancer(),
            self.objective(),
            record_steps=self.prepared.record_steps(),
            limit_skipped_steps=section["limit_skipped_steps"],
            check_gradients=section["check_gradients"],
            tell=tell,
            probe=self.validation_losses if self.evaluates else None,
            extra=self.model.routing.losses if self.model.routing else lambda: None,
        )

    def add_references(self, folder: Path) -> None:
        """Put beside items what the model says of them before training, where tasks compare with that."""
        self.model.to(self.arguments.device)
        add_references(self.prepared.items, self.prepared.tasks, self.predictor(), folder)

    def step_facts(self) -> dict[str, Any]:
        """Give, for the record of a step, how much tasks used each expert since last asked, and what groups weigh."""
        loads = self.model.routing.load() if self.model.routing else {}
        groups = {name: each.shown() for name, each in self.prepared.mitigations.items() if each.shown()}
        experts = {name: [round(each, 4) for each in load] for name, load in loads.items()}
        return {key: value for key, value in (("experts", experts), ("groups", groups)) if value}

    def begin_distillation(self, folder: Path, tell: Callable[[str], None] = lambda text: None) -> None:
        """Put beside training items what the teachers of tasks that have one say of them."""
        begin_distillation(self.config, self.prepared, folder, self.arguments.device, tell)

    @functools.cached_property
    def labelling(self) -> Labelling:
        """What labels texts that come without, made before an item is read."""
        prepared = self.prepared
        limit = self.config.batching.limit_tokens
        return Labelling(self.model, prepared.tasks, prepared.items, prepared.padding, limit)

    def begin_curriculum(self, folder: Path, tell: Callable[[str], None] = lambda text: None) -> list[Decision]:
        """Put the run's curriculum into the plan, before anything is drawn; gives what it says, and when."""
        self.model.to(self.arguments.device)
        return begin_curriculum(self.config, self.prepared, self.model, self.steps.plan, folder, tell=tell)

    def probes(self, folder: Path) -> list[TransferProbe]:
        """Make what probes training for transfer, where the run is to be probed and has what that takes."""
        settings, prepared = self.config.transfer, self.prepared
        rows = prepared.rows() * self.arguments.gradient_accumulation_steps
        asked = (settings.every_steps, settings.rows)
        every, each = probe_schedule(asked, len(prepared.tasks), rows, self.length.updates)
        shared = any(parameter.requires_grad for _, parameter in self.model.shared_parameters())
        if not every or not self.evaluates or not shared or rank():
            return []
        probe = TransferProbe(
            self.model,
            prepared.tasks,
            prepared.items,
            self.steps,
            folder,
            every_steps=every,
            rows=each,
            sketch_size=settings.sketch_size,
            lookahead=settings.lookahead,
            seed=self.config.training["seed"],
        )
        return [probe]

    @functools.cached_property
    def composite(self) -> Composite:
        """What makes one number of all tasks' scores."""
        return build_composite(self.config.evaluation.composite)

    @functools.cached_property
    def policies(self) -> Policies:
        """The run's policies, made when they are first asked for: evaluation has no use for the files they read."""
        return Policies.of(self.config.policies, list(self.config.tasks))

    def adaptation(
        self, log: Callable[[Mapping[str, Any]], None], tell: Callable[[str], None] = lambda text: None
    ) -> Adaptation:
        """Make what changes the plan by what training shows; `log` takes the line of each decision."""
        policies, plan = self.policies, self.steps.plan
        every, baselines = self.config.mixture["update_steps"], {}
        if "baselines" in policies.needs:
            baselines = {name: self._baseline(name) for name in self.prepared.tasks}
        judged = self.prepared.judged
        lower = [name for name, each in judged.items() if not METRICS.load(each.metrics[0]).greater_is_better]
        return Adaptation(plan, policies, update_steps=every, log=log, tell=tell, baselines=baselines, lower=lower)

    def _baseline(self, name: str) -> float:
        """Give the validation score of the best constant answer."""
        judged = self.prepared.judged[name]
        rows = self.prepared.corpora[name].splits["validation"][: self.config.evaluation.limit_rows]
        answers = [Prediction(value) for value in judged.task.baseline(judged.train, rows)]
        return quick_scores(judged, answers, rows)[judged.metrics[0]]

    def mean_validation_losses(self) -> dict[str, float]:
        """Give each task's mean loss on its first validation rows."""
        found: dict[str, list[float]] = {name: [] for name in self.prepared.tasks}
        for start in range(0, VALIDATION_ROWS, VALIDATION_ROWS // 4):
            for name in found:
                items = self.prepared.items[name]["validation"]
                part = [items[index] for index in range(start, min(start + VALIDATION_ROWS // 4, len(items)))]
                if part:
                    found[name] += self._losses([(name, item) for item in part])[name]
        return {name: sum(held) / len(held) for name, held in found.items()}

    def validation_losses(self, step: int) -> dict[str, float]:
        """Give each task's mean loss on a few validation rows, the next ones at each step."""
        tasks = self.prepared.tasks
        each = max(1, self.arguments.per_device_train_batch_size // len(tasks))
        drawn = []
        for name in tasks:
            items = self.prepared.items[name]["validation"]
            drawn += [(name, items[(step * each + place) % len(items)]) for place in range(min(each, len(items)))]
        losses = self._losses(drawn)
        return {name: sum(losses[name]) / len(losses[name]) for name in tasks}

    def _losses(self, drawn: Sequence[tuple[str, Item]]) -> dict[str, list[float]]:
        """Give the losses of items in evaluation mode, by task."""
        found: dict[str, list[float]] = {name: [] for name, _ in drawn}
        training, tasks = self.model.training, self.prepared.tasks
        self.model.eval()
        with torch.no_grad():
            for chunk in self.steps.build(drawn).to(self.arguments.device).chunks:
                outputs = self.model(chunk)
                for name, part in chunk.parts.items():
                    found[name] += tasks[name].loss(outputs[name], part.targets).tolist()
        self.model.train(training)
        return found

    def head_rates(self) -> dict[str, float]:
        """Give the learning rate of each head: the task's own, the model's for heads, or ten times the run's.

        A head begins at random where the backbone begins trained, so it has further to go.
        """
        usual = self.config.model.head_learning_rate or 10 * self.config.training["learning_rate"]
        return {
            name: task.learning_rate or usual for name, task in self.config.tasks.items() if name in self.model.heads
        }

    def trainer(
        self,
        callbacks: Sequence[transformers.TrainerCallback] = (),
        tell: Callable[[str], None] = lambda text: None,
        log: Callable[[Mapping[str, Any]], None] = lambda row: None,
    ) -> Trainer:
        """Make the Trainer; `tell` says something to the user, and `log` takes the line of each decision."""
        stopping: list[transformers.TrainerCallback] = []
        settings = self.config.evaluation
        if settings.early_stopping_patience and self.evaluates:
            patience, threshold = settings.early_stopping_patience, settings.early_stopping_threshold
            stopping.append(transformers.EarlyStoppingCallback(patience, threshold))
        return Trainer(
            self.model,
            self.arguments,
            steps=self.steps,
            epoch_steps=self.length.epoch_steps,
            balancing=self.balancing(tell),
            evaluator=self.validate if self.evaluates else None,
            saver=self._save_checkpoint,
            head_rates=self.head_rates(),
            place=self.prepared.place,
            adaptation=self.adaptation(log, tell),
            validation_losses=self.mean_validation_losses if "validation_losses" in self.policies.needs else None,
            callbacks=[*stopping, self.labelling, *callbacks],
        )

    def _save_checkpoint(self, folder: Path) -> None:
        """Write the model as it is now, and the labels that texts have; before a checkpoint counts as whole."""
        self.save(folder)
        self.labelling.save(folder)

    def validate(self) -> dict[str, float]:
        """Score the validation split without intervals: ``TASK/METRIC`` and ``composite``."""
        values = {}
        for name in self.prepared.tasks:
            limit = self.config.evaluation.limit_rows
            rows, answers = self.answers(name, "validation", limit)
            values[name] = quick_scores(self.prepared.judged[name], answers, rows)
        flat = {f"{name}/{metric}": value for name, found in values.items() for metric, value in found.items()}
        return {"composite": quick_composite(values, self.prepared.judged, self.composite), **flat}

    def answers(self, name: str, split: str, limit: int | None = None) -> tuple[list[Row], list[Prediction]]:
        """Answer the first `limit` rows of a task's split, or all."""
        rows = self.prepared.corpora[name].splits[split][:limit]
        items = self.prepared.items[name][split]
        kept = _First(items, int((items.rows < len(rows)).sum()))
        return rows, self.predictor().answer(name, rows, kept)

    def predictor(self) -> Predictor:
        """Make what answers rows with the model as it is now."""
        limit, prepared = self.config.batching.limit_tokens, self.prepared
        return Predictor(self.model, prepared.tasks, prepared.padding, limit, prepared.tokenizer)

    def save(self, folder: Path) -> None:
        """Write the model as it is now."""
        tasks = {
            name: (self.config.tasks[name].type, self.config.options(name), task)
            for name, task in self.prepared.tasks.items()
        }
        tokenizer = self.prepared.tokenizer
        save_model(self.model, folder, tokenizer=tokenizer, section=self.config.model, tasks=tasks)

    def score(self, splits: Sequence[str], record: Record | None) -> list[Score]:
        """Score splits with intervals, and write predictions and scores where there is a record."""
        scores = []
        if record:
            add_references(self.prepared.items, self.prepared.tasks, None, record.folder)
        for split in splits:
            predictions, rows = {}, {}
            for name in self.prepared.tasks:
                if split in self.prepared.items[name]:
                    rows[name], predictions[name] = self.answers(name, split)
            if record:
                self._write_predictions(record, split, rows, predictions)
            settings = self.config.evaluation
            scores += score_split(
                split,
                predictions,
                rows,
                self.prepared.judged,
                how=self.composite,
                resamples=settings.resamples,
                confidence=settings.confidence,
                seed=self.config.training["seed"],
            )
        if record:
            record.write_scores(scores)
        return scores

    def _write_predictions(
        self,
        record: Record,
        split: str,
        rows: Mapping[str, Sequence[Row]],
        predictions: Mapping[str, Sequence[Prediction]],
    ) -> None:
        for name, answers in predictions.items():
            task, places = self.prepared.tasks[name], self.prepared.corpora[name].places[split]
            lines = [
                prediction_line(task, index, places[index], row, answer)
                for index, (row, answer) in enumerate(zip(rows[name], answers, strict=True))
            ]
            record.write_predictions(name, split, lines)
