"""transformers' Trainer over steps of several tasks; all coupling to its inner workings is in this file."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.utils.data
import transformers
from torch import Tensor
from transformers import EarlyStoppingCallback, TrainerState

from taskloom.batches.steps import EpochSampler, Steps, first
from taskloom.errors import ConfigError, Fault, NonFiniteLossError, said
from taskloom.model import MultiTaskModel, load_weights
from taskloom.training.checkpoints import STATE_FILE, Checkpoint, patience
from taskloom.training.objective import Objective
from taskloom.types import Chunk, Step

Evaluator = Callable[[], dict[str, float]]
Saver = Callable[[Path], None]
Place = Callable[[str, int], str]


class Trainer(transformers.Trainer):
    """A `transformers.Trainer` whose step is a list of chunks of several tasks.

    Callbacks, trackers, schedules, precision, clipping, accumulation and checkpoints are transformers' own.

    Args:
        model: backbone and heads.
        args: as for transformers.
        steps: the plan of micro-batches.
        epoch_steps: micro-batches that count as one epoch.
        objective: what is lowered.
        evaluator: gives ``composite`` and ``TASK_METRIC`` values of the validation split; None for no evaluation.
        saver: writes the model into a checkpoint's folder.
        head_rates: task name -> learning rate of its head, where it has one of its own.
        place: says where a task's item came from (task name, row), for messages.
        callbacks: further `transformers.TrainerCallback`s.

    Attributes:
        step_record: what the last optimizer step was: loss, learning rate, seconds, and for each task its loss, weight,
            examples and tokens; read by callbacks at the step's end.
    """

    model: MultiTaskModel
    control: transformers.TrainerControl

    def __init__(
        self,
        model: MultiTaskModel,
        args: transformers.TrainingArguments,
        *,
        steps: Steps,
        epoch_steps: int,
        objective: Objective,
        evaluator: Evaluator | None,
        saver: Saver,
        head_rates: Mapping[str, float],
        place: Place,
        callbacks: list[transformers.TrainerCallback] | None = None,
    ) -> None:
        args.remove_unused_columns = False
        args.logging_nan_inf_filter = False
        args.disable_tqdm = True
        # The Trainer wants a data set wherever `eval_strategy` is set; rows are run by `evaluator`.
        super().__init__(
            model=model,
            args=args,
            train_dataset=steps,
            eval_dataset=steps if evaluator else None,
            data_collator=first,
            callbacks=callbacks,
        )
        self.remove_callback(transformers.PrinterCallback)
        self.steps = steps
        self.epoch_steps = epoch_steps
        self.objective = objective
        self.evaluator = evaluator
        self.saver = saver
        self.head_rates = head_rates
        self.place = place
        self.step_record: dict[str, Any] = {}
        self._operations_per_token = 6 * model.trained_parameters()["backbone"]
        self._begin_step()
        self._begin_log()

    # --- loader ---------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Step]:
        """Load one micro-batch at a time, in the order of the plan."""
        workers = self.args.dataloader_num_workers
        loader = torch.utils.data.DataLoader(
            self.steps,
            batch_size=1,
            sampler=EpochSampler(self.epoch_steps, len(self.steps)),
            collate_fn=first,
            num_workers=workers,
            pin_memory=False,
            persistent_workers=self.args.dataloader_persistent_workers and workers > 0,
            prefetch_factor=self.args.dataloader_prefetch_factor if workers > 0 else None,
        )
        prepared: torch.utils.data.DataLoader[Step] = self.accelerator.prepare(loader)
        return prepared

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make transformers' optimizer, and give heads with a learning rate of their own groups of their own."""
        try:
            optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        except (ImportError, ValueError) as error:
            found = f"`{self.args.optim}`: {said(error)}"
            raise ConfigError(Fault("training.optim", "be an optimizer that is installed here", found)) from error
        for name, rate in self.head_rates.items():
            own = {id(parameter) for parameter in self.model.heads[name].parameters()}
            for group in list(optimizer.param_groups):
                moved = [parameter for parameter in group["params"] if id(parameter) in own]
                if moved:
                    group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
                    optimizer.add_param_group({**group, "params": moved, "lr": rate})
        return optimizer

    # --- step -----------------------------------------------------------------------------------------------------

    def training_step(self, model: torch.nn.Module, inputs: Step, num_items_in_batch: Any = None) -> Tensor:
        """Run forward and backward over the chunks of one micro-batch.

        Returns:
            the micro-batch's share of the objective, detached.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite; raised before the optimizer moves.
        """
        model.train()
        self._set_optimizer("train")
        step = inputs.to(self.args.device)
        total = torch.zeros((), device=self.args.device)
        for chunk in step.chunks:
            with self.compute_loss_context_manager():
                outputs = model(chunk)
                share, losses = self.objective(outputs, chunk)
            self._refuse_non_finite(chunk, losses)
            self.accelerator.backward(share)
            total += share.detach()
            for name, loss in losses.items():
                self._loss[name] += float(loss.sum())
        for name, count in step.examples.items():
            self._examples[name] += count
            self._tokens[name] += step.tokens[name]
        if self.accelerator.sync_gradients:
            self._end_step()
        return total

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> None:
        """Count nothing: the objective has its normalisers already."""

    def floating_point_ops(self, inputs: Step) -> int:
        """Estimate a micro-batch's operations as 6 × parameters × useful tokens (Kaplan et al., arXiv:2001.08361)."""
        return self._operations_per_token * sum(inputs.tokens.values())

    def _set_optimizer(self, mode: str) -> None:
        """Tell optimizers without a schedule, which hold two sets of weights, which of the two is wanted."""
        switch = getattr(self.optimizer, mode, None)
        if callable(switch):
            switch()

    def _refuse_non_finite(self, chunk: Chunk, losses: Mapping[str, Tensor]) -> None:
        faults = []
        for name, loss in losses.items():
            for index in (~torch.isfinite(loss)).nonzero().flatten().tolist():
                where = self.place(name, chunk.parts[name].items[index]["row"])
                fix = "Lower `training.learning_rate`, or look at the row; the step was not applied"
                found = f"{float(loss[index])} in step {self.state.global_step + 1}"
                faults.append(Fault(where, f"have a finite loss in task `{name}`", found, fix))
        if faults:
            raise NonFiniteLossError(*faults)

    def _begin_step(self) -> None:
        self._loss: dict[str, float] = defaultdict(float)
        self._examples: dict[str, int] = defaultdict(int)
        self._tokens: dict[str, int] = defaultdict(int)
        self._step_started = time.perf_counter()

    def _begin_log(self) -> None:
        self._log_loss: dict[str, float] = defaultdict(float)
        self._log_examples: dict[str, int] = defaultdict(int)
        self._log_tokens, self._log_seconds = 0, 0.0

    def _end_step(self) -> None:
        """Close the books of one optimizer step."""
        seconds = time.perf_counter() - self._step_started
        tasks = {}
        for name, weight in self.objective.weights.items():
            count = self._examples[name]
            mean = self._loss[name] / count if count else None
            tasks[name] = {"loss": mean, "weight": weight, "examples": count, "tokens": self._tokens[name]}
            self._log_loss[name] += self._loss[name]
            self._log_examples[name] += count
        tokens = sum(self._tokens.values())
        loss = sum(self.objective.scale[name] * value for name, value in self._loss.items())
        self._log_tokens += tokens
        self._log_seconds += seconds
        self.step_record = {
            "loss": loss,
            "learning_rate": self._get_learning_rate(),
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "tasks": tasks,
        }
        self._begin_step()

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """Note the norm before clipping, which transformers gives to the log alone."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.step_record["grad_norm"] = None if norm is None else float(norm)
        return norm

    def _track_num_input_tokens(self, inputs: Step) -> None:
        """Count useful tokens where `include_num_input_tokens_seen` asks for it."""
        if self.args.include_num_input_tokens_seen != "no":
            self.state.num_input_tokens_seen += sum(inputs.tokens.values())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add each task's mean loss since the last log, and useful tokens per second."""
        if "loss" in logs and self._log_seconds:
            for name, count in self._log_examples.items():
                if count:
                    logs[f"loss_{name}"] = self._log_loss[name] / count
            logs["tokens_per_second"] = self._log_tokens / self._log_seconds
            self._begin_log()
        super().log(logs, start_time)

    # --- evaluation -----------------------------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score every task and the composite, and tell the callbacks once.

        Returns:
            ``eval_composite`` and ``eval_TASK_METRIC`` values.
        """
        started = time.perf_counter()
        self._set_optimizer("eval")
        values = self.evaluator() if self.evaluator else {}
        metrics = {f"{metric_key_prefix}_{key}": value for key, value in values.items()}
        metrics[f"{metric_key_prefix}_runtime"] = time.perf_counter() - started
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._step_started = time.perf_counter()
        return metrics

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Write adapter or backbone and heads in safetensors; no pickled arguments."""
        self.saver(Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))

    def _load_callback_state(self) -> None:
        """Take up the patience of early stopping where the checkpoint left it, which transformers does if asked to."""
        super()._load_callback_state()
        held = [each for each in self.callback_handler.callbacks if isinstance(each, EarlyStoppingCallback)]
        for callback, saved in zip(held, patience(self.state.stateful_callbacks), strict=False):
            callback.early_stopping_patience_counter = saved["attributes"]["early_stopping_patience_counter"]

    def _load_best_model(self) -> None:
        load_weights(self.model, Path(self.state.best_model_checkpoint))

    def take_up_end(self, checkpoint: Checkpoint) -> None:
        """Put in place what a training that ended at a checkpoint left: the best weights, where these are asked for."""
        self.state = TrainerState.load_from_json(str(checkpoint.folder / STATE_FILE))
        best = checkpoint.folder.with_name(Path(self.state.best_model_checkpoint or checkpoint.folder).name)
        wanted = self.args.load_best_model_at_end and best.is_dir()
        load_weights(self.model, best if wanted else checkpoint.folder)
