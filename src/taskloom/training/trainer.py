"""transformers' Trainer over steps of several tasks; all coupling to its inner workings is in this file."""

from __future__ import annotations

import contextlib
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
from transformers.integrations import TensorBoardCallback

from taskloom.batches.steps import EpochSampler, Steps, first
from taskloom.errors import ConfigError, Fault, NonFiniteLossError, said
from taskloom.gradients import BalancedStep
from taskloom.gradients.conflict import rounded
from taskloom.gradients.ranks import add_up, wait_for_all, world_size
from taskloom.model import MultiTaskModel, load_weights
from taskloom.training.adaptation import Adaptation, first_scores
from taskloom.training.balancing import Balancing, random_states, set_random_states
from taskloom.training.checkpoints import STATE_FILE, Checkpoint, patience
from taskloom.training.scalars import LogBook, NamedTensorBoard
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
        balancing: what is lowered, and how the tasks' gradients are weighed.
        evaluator: gives ``composite`` and ``TASK_METRIC`` values of the validation split; None for no evaluation.
        saver: writes the model into a checkpoint's folder.
        head_rates: task name -> learning rate of its head, where it has one of its own.
        place: says where a task's item came from (task name, row), for messages.
        adaptation: changes the plan by what training shows; None where nothing does.
        validation_losses: gives each task's mean loss on validation rows, where a policy reads it.
        callbacks: further `transformers.TrainerCallback`s.

    Attributes:
        step_record: what the last optimizer step was: loss, learning rate, seconds, and for each task its loss, weight,
            learning rate, examples and tokens; read by callbacks at the step's end.
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
        balancing: Balancing,
        evaluator: Evaluator | None,
        saver: Saver,
        head_rates: Mapping[str, float],
        place: Place,
        adaptation: Adaptation | None = None,
        validation_losses: Callable[[], dict[str, float]] | None = None,
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
        board = self.pop_callback(TensorBoardCallback)
        if board is not None:
            self.add_callback(NamedTensorBoard(board.tb_writer))
        self.steps = steps
        self.epoch_steps = epoch_steps
        self.balancing = balancing
        self.objective = balancing.objective
        self._replayed: list[tuple[Step, list[Any]]] = []
        self.evaluator = evaluator
        self.saver = saver
        self.head_rates = head_rates
        self.place = place
        self.adaptation = adaptation
        self.validation_losses = validation_losses
        self.step_record: dict[str, Any] = {}
        self._operations_per_token = 6 * model.trained_parameters()["backbone"]
        self._log = LogBook()
        self._head_groups: dict[str, int] = {}  # task -> the place of a group of the optimizer with its head
        self._begin_step()

    # --- loader ---------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Step]:
        """Load one micro-batch at a time, in the order of the plan."""
        workers = self.args.dataloader_num_workers
        loader = torch.utils.data.DataLoader(
            self.steps,
            batch_size=1,
            sampler=EpochSampler(self.steps.plan, self.epoch_steps),
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
                    self._head_groups[name] = len(optimizer.param_groups)
                    optimizer.add_param_group({**group, "params": moved, "lr": rate})
        moments = self.balancing.balancer.moments
        if moments is not None:
            moments.attach(optimizer)
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
        if self.balancing.step is None:
            self._open_step(model, step)
        if self.balancing.balancer.passes == 2:
            self._replayed.append((step, random_states(self.args.device)))
        total = self._run_chunks(model, step, counts=True)
        for name, count in step.examples.items():
            self._examples[name] += count
            self._tokens[name] += step.tokens[name]
        if self.accelerator.sync_gradients:
            self._close_step(model)
        return total

    def _open_step(self, model: torch.nn.Module, step: Step) -> None:
        """Begin an optimizer step; the first one that is split is held against separate passes."""
        balancing, number = self.balancing, self.state.global_step
        balancing.open(number, self._loss_scale(), measure=balancing.balancer.passes == 2)
        if balancing.check_gradients and balancing.step is not None and balancing.step.splits:
            balancing.check_gradients = False
            largest = max(step.chunks, key=lambda chunk: (len(chunk.parts), -chunk.inputs["input_ids"].numel()))

            def forward(chunk: Chunk) -> Mapping[str, Tensor]:
                with self.compute_loss_context_manager():
                    outputs: Mapping[str, Tensor] = model(chunk)
                return outputs

            with self._unsynced(model):
                balancing.verify(largest, forward, half=self.args.bf16 or self.args.fp16)
            # The step was opened before anything was distrusted.
            balancing.open(number, self._loss_scale(), measure=balancing.balancer.passes == 2)

    def _run_chunks(self, model: torch.nn.Module, step: Step, *, counts: bool) -> Tensor:
        """Run forward and backward over the chunks of a micro-batch; gives its share of the objective, detached."""
        total = torch.zeros((), device=self.args.device)
        with self._unsynced(model), self.balancing.watching():
            for chunk in step.chunks:
                self.balancing.rows(chunk)
                with self.compute_loss_context_manager():
                    outputs = model(chunk)
                    sums, losses = self.objective.sums(outputs, chunk)
                self._refuse_non_finite(chunk, losses)
                self.balancing.backward(chunk, sums, self.accelerator.backward)
                if counts:
                    total += sum(self.objective.scale[name] * value.detach() for name, value in sums.items())
                    for name, loss in losses.items():
                        self._loss[name] += float(loss.sum())
                        self._sums[name] += float(sums[name].detach())
        return total

    def _close_step(self, model: torch.nn.Module) -> None:
        """Weigh the tasks and close the books of one optimizer step; a step of two passes is run again first."""
        done = self.balancing.close(self.state.global_step)
        after = random_states(self.args.device)
        while done.measure and done.sound:
            model.zero_grad()
            # A first pass that found out how parameters are used, and no weights, is made again.
            self.balancing.open(self.state.global_step, self._loss_scale(), measure=not done.told)
            for step, states in self._replayed:
                set_random_states(states, self.args.device)
                self._run_chunks(model, step, counts=False)
            done = self.balancing.close(self.state.global_step)
        set_random_states(after, self.args.device)
        self._replayed.clear()
        self._end_step(done)

    def _unsynced(self, model: torch.nn.Module) -> Any:
        """Keep data-parallel wrappers from averaging gradients: they are split first, and averaged after."""
        no_sync = getattr(model, "no_sync", None)
        return no_sync() if callable(no_sync) else contextlib.nullcontext()

    def _loss_scale(self) -> float:
        scaler = self.accelerator.scaler
        return float(scaler.get_scale()) if scaler is not None else 1.0

    def _get_num_items_in_batch(self, batch_samples: list[Step], device: torch.device) -> None:
        """Take the objective's normaliser from all micro-batches of the step; transformers' own count is not needed."""
        self.objective.begin(batch_samples)

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
        self._sums: dict[str, float] = defaultdict(float)
        self._step_started = time.perf_counter()

    def _end_step(self, done: BalancedStep) -> None:
        """Close the books of one optimizer step."""
        seconds = time.perf_counter() - self._step_started
        self._add_up_ranks()
        tasks = {}
        for name, configured in self.objective.weights.items():
            count = self._examples[name]
            mean = self._loss[name] / count if count else None
            weight = configured * self.objective.factors.get(name, 1.0) * done.weights.get(name, 1.0)
            tasks[name] = {"loss": mean, "weight": weight, "learning_rate": self._rate(name), "examples": count}
            tasks[name]["tokens"] = self._tokens[name]
        tokens = sum(self._tokens.values())
        loss = sum(self.objective.scale[name] * value for name, value in self._sums.items())
        self.step_record = {
            "loss": loss,
            "learning_rate": self._get_learning_rate(),
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "tasks": tasks,
        }
        if done.record:
            self.step_record["conflict"] = rounded(done.record)
        if not done.sound:
            self.step_record["skipped"] = done.broken
        self._log.add(self.step_record)
        if self.adaptation is not None:
            conflict = self.step_record.get("conflict")
            self.adaptation.step(self.state.global_step + 1, self._loss, self._examples, conflict)
        self._begin_step()

    def _rate(self, name: str) -> float:
        """Give the learning rate of a task's head in this step, or that of all else where it has none of its own."""
        place = self._head_groups.get(name)
        return float(self._get_learning_rate() if place is None else self.optimizer.param_groups[place]["lr"])

    def _add_up_ranks(self) -> None:
        """Add up the books of all processes of a data-parallel run."""
        books: list[dict[str, Any]] = [self._loss, self._examples, self._tokens, self._sums]
        if world_size() > 1:
            names = list(self.objective.weights)
            held = torch.tensor([[book[name] for name in names] for book in books], dtype=torch.float64)
            added = add_up(held.to(self.args.device)).tolist()
            for book, values in zip(books, added, strict=True):
                book.update(zip(names, values, strict=True))
            self._sums.update({name: value / world_size() for name, value in self._sums.items()})

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
        """Add what the steps since the last log say of each task; see `LogBook`."""
        if "loss" in logs:
            logs |= self._log.close()
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
        scores = first_scores(values, list(self.objective.weights))
        self.balancing.balancer.scores = scores
        if self.adaptation is not None:
            losses = self.validation_losses() if self.validation_losses else None
            self.adaptation.evaluated(self.state.global_step, scores, losses)
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

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write the state of the balance beside that of the optimizer."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            self.balancing.save(Path(output_dir))
            if self.adaptation is not None:
                self.adaptation.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Take up the state of the balance where the checkpoint left it."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.balancing.load(Path(checkpoint))
            if self.adaptation is not None:
                self.adaptation.load(Path(checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))

    def _load_callback_state(self) -> None:
        """Take up the patience of early stopping where the checkpoint left it, which transformers does if asked to."""
        super()._load_callback_state()
        held = [each for each in self.callback_handler.callbacks if isinstance(each, EarlyStoppingCallback)]
        for callback, saved in zip(held, patience(self.state.stateful_callbacks), strict=False):
            callback.early_stopping_patience_counter = saved["attributes"]["early_stopping_patience_counter"]

    def _load_best_model(self) -> None:
        wait_for_all()  # the first process may still be writing it
        load_weights(self.model, Path(self.state.best_model_checkpoint))

    def take_up_end(self, checkpoint: Checkpoint) -> None:
        """Put in place what a training that ended at a checkpoint left: the best weights, where these are asked for."""
        self.state = TrainerState.load_from_json(str(checkpoint.folder / STATE_FILE))
        best = checkpoint.folder.with_name(Path(self.state.best_model_checkpoint or checkpoint.folder).name)
        wanted = self.args.load_best_model_at_end and best.is_dir()
        load_weights(self.model, best if wanted else checkpoint.folder)
