"""One optimizer step of a balancer: split, weighed, and put into ``.grad``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from taskloom.gradients.conflict import half_cosines
from taskloom.gradients.ledgers import JacobianLedger, WeightedLedger
from taskloom.gradients.ranks import add_up, average, average_gradients, world_size
from taskloom.gradients.step import Backward, Step

if TYPE_CHECKING:
    from taskloom.gradients.balancer import Balancer
    from taskloom.gradients.moments import TaskMoments


class Seen:
    """A step's statistics without the loss scale.

    Args:
        step: the engine's.
        scale: what losses were multiplied by on their way back.
    """

    def __init__(self, step: Step, scale: float) -> None:
        self.step = step
        self.scale = scale

    @property
    def jacobian(self) -> Tensor:
        """The Jacobian [task, param]."""
        return self.step.jacobian if self.scale == 1.0 else self.step.jacobian / self.scale

    def gramian(self) -> Tensor | None:
        """Give the Gramian [task, task]; see `Step.gramian`."""
        found = self.step.gramian()
        return None if found is None else found / self.scale**2

    def half_gramian(self) -> Tensor:
        """Give the Gramian of the halves [2 × task, 2 × task]."""
        return self.step.half_gramian() / self.scale**2


class BalancedStep:
    """One optimizer step of a `Balancer`; see there.

    Attributes:
        sound: whether all gradients were finite, so that the optimizer may step.
        broken: names of tasks whose gradient was not finite.
        told: whether the step told what the method reads; not so in the first step of the statistic "gramian" that
            uses a parameter twice, which leaves the weights as they are.
        losses: task -> its mean loss in the step; tasks without rows are absent.
        weights: task -> weight of its preferred gradient in the step, constant weights among them.
        record: Gramian, layers and half cosines of a recorded step, ready for JSON; else empty.
    """

    def __init__(self, balancer: Balancer, *, record: bool, loss_scale: float, measure: bool) -> None:
        self.balancer = balancer
        self.loss_scale = loss_scale
        self.measure = measure
        self.sound = self.told = True
        self.broken: list[str] = []
        self.losses: dict[str, float] = {}
        self.weights: dict[str, float] = {}
        self.record: dict[str, Any] = {}
        self._recorded = record
        self._sums = torch.zeros(len(balancer.tasks), dtype=torch.float64)
        self._counts = torch.zeros_like(self._sums)
        self._had = torch.zeros_like(self._sums)
        self._multipliers = torch.zeros_like(self._sums) if measure else balancer.multipliers
        self._inner: Step | None = None
        if balancer.splits or record:
            halves = record or balancer.method.needs == "cross_gramian"
            self._inner = balancer.engine.step(self._multipliers, halves=halves)
        self._stack = contextlib.ExitStack()

    @property
    def splits(self) -> bool:
        """Whether this step's gradients are split by task."""
        return self._inner is not None

    @property
    def weighs(self) -> bool:
        """Whether the method is asked at the end of the step, and not in another pass of it."""
        return self.balancer.method.needs != "nothing" and (self.measure or not self.balancer.measured)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.watching())
        return self

    @contextlib.contextmanager
    def watching(self) -> Iterator[Self]:
        """Watch some of the step's passes, for loops that do other things between them; `close` ends the step."""
        with self._inner.watching() if self._inner is not None else contextlib.nullcontext():
            yield self

    def rows(
        self,
        task_of_row: Sequence[int] | Tensor,
        inputs: Mapping[str, Any] | Tensor,
        items: Sequence[int] | None = None,
    ) -> None:
        """Say which task each row of the next forward pass belongs to; see `Step.rows`."""
        if self._inner is not None:
            self._inner.rows(task_of_row, inputs, items)

    def backward(
        self,
        losses: Mapping[str, Tensor],
        backward: Backward = torch.autograd.backward,
        scales: Mapping[str, float] | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> None:
        """Run the backward pass of some rows.

        Args:
            losses: task -> these rows' share of the task's mean loss in the step, a scalar; shares add up over calls.
            backward: see `Step.backward`.
            scales: task -> what its loss has to be multiplied by to be such a share; 1 by default.
            counts: task -> how many terms its loss is the sum of, where the shares add up to a mean only on average
                over the steps; the method is then shown the mean of the step's terms.
        """
        tasks, preference = self.balancer.tasks, self.balancer.preference
        factors, numbered = {}, {}
        for name, loss in losses.items():
            index = tasks.index(name)
            scale = 1.0 if scales is None else scales[name]
            self._sums[index] += (scale if counts is None else 1.0) * float(loss.detach())
            self._counts[index] += 0.0 if counts is None else counts[name]
            self._had[index] = 1
            factors[index] = float(preference[index]) * scale
            numbered[index] = loss
        if self._inner is not None:
            self._inner.backward({index: factors[index] * loss for index, loss in numbered.items()}, backward)
            return
        terms = [float(self._multipliers[index]) * factors[index] * loss for index, loss in numbered.items()]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        backward(total)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, value, trace)
        if kind is None:
            self.close()

    def close(self) -> None:
        """End the step: weigh the tasks, and put the balanced gradient into the shared parameters' ``.grad``."""
        if self._inner is not None:
            self._inner.close()
        balancer = self.balancer
        self._reduce()
        present = (self._had > 0).nonzero().flatten()
        self.losses = {balancer.tasks[index]: float(self._sums[index]) for index in present.tolist()}
        self._look_for_broken(present)
        if not self.sound:
            self._drop()
            return
        followed, combined = balancer.multipliers, None
        if self.weighs:
            found = balancer.weigh(present, self._sums, self._unscaled())
            self.told = found is not None
            followed, combined = found or (followed, None)
        if not all(bool(each.isfinite().all()) for each in (followed, combined) if each is not None):
            self.sound = False
            self._drop()
            return
        kept = self._inner is not None and isinstance(self._inner.ledger, JacobianLedger)
        used = followed if self.measure or (kept and balancer.weights_from == "this_step") else self._multipliers
        if self._inner is None:
            self._undo_for_private(used)
        elif balancer.moments is not None:
            self._take_moments(balancer.moments, used, present)
        elif kept:
            self._inner.write(used if combined is None else combined * self.loss_scale)
        within = used * balancer.preference / balancer.wanted.clamp(min=1e-300)
        self.weights = {balancer.tasks[index]: float(within[index]) for index in present.tolist()}
        balancer.multipliers, balancer.measured = followed, self.measure
        if not self.measure:
            balancer.steps += 1
        if self._recorded and self._inner is not None:
            self._write_record(self._inner, present)

    # --- within -----------------------------------------------------------------------------------------------------

    def _take_moments(self, moments: TaskMoments, used: Tensor, present: Tensor) -> None:
        """Have each task's own moments make the step of the shared parameters, of which the optimizer sees nothing."""
        seen, counted = self._unscaled(), used * self.balancer.preference
        assert seen is not None
        moments.take(seen.jacobian, counted / counted.abs().sum().clamp(min=1e-30), present)
        for leaf in self.balancer.engine.leaves:
            leaf.parameter.grad = None

    def _unscaled(self) -> Seen | None:
        """Undo the loss scale in what the method reads."""
        return None if self._inner is None else Seen(self._inner, self.loss_scale)

    def _reduce(self) -> None:
        """Bring the processes of a data-parallel run together."""
        balancer = self.balancer
        device = balancer.engine.device
        ranks = world_size()
        self._had, sums, counts = add_up(torch.stack([self._had, self._sums, self._counts]).to(device)).cpu()
        self._sums = torch.where(counts > 0, sums / counts, sums / ranks)
        if ranks == 1:
            return
        average_gradients(parameter for held in balancer.private.values() for parameter in held)
        if self._inner is None:
            average_gradients(leaf.parameter for leaf in balancer.engine.leaves)
            return
        ledger = self._inner.ledger
        if ledger.halves is not None:
            average(ledger.halves)
        if isinstance(ledger, JacobianLedger):
            average(ledger.jacobian)
        elif isinstance(ledger, WeightedLedger) and ledger.sketch is not None:
            average(ledger.sketch)
            average_gradients(leaf.parameter for leaf in balancer.engine.leaves)
        else:
            raise ValueError("The statistic `gramian` does not add up over processes. Use `sketch` or `jacobian`.")

    def _look_for_broken(self, present: Tensor) -> None:
        balancer = self.balancer
        broken = {index for index in present.tolist() if not bool(torch.isfinite(self._sums[index]))}
        for index, name in enumerate(balancer.tasks):
            held = (p.grad for p in balancer.private.get(name, ()) if p.grad is not None)
            if not all(bool(torch.isfinite(gradient).all()) for gradient in held):
                broken.add(index)
        if self._inner is not None:
            broken |= set((~torch.isfinite(self._norms(self._inner))).nonzero().flatten().tolist())
        if self._inner is None or isinstance(self._inner.ledger, WeightedLedger):
            shared = (leaf.parameter.grad for leaf in balancer.engine.leaves if leaf.parameter.grad is not None)
            self.sound = all(bool(torch.isfinite(gradient).all()) for gradient in shared)
        self.sound = self.sound and not broken
        self.broken = [balancer.tasks[index] for index in sorted(broken)]

    def _norms(self, step: Step) -> Tensor:
        gramian = step.gramian()
        return torch.zeros(len(self.balancer.tasks)) if gramian is None else gramian.diagonal().cpu()

    def _drop(self) -> None:
        """Leave nothing of a step whose gradients are not finite; under a loss scale its scaler has to see them."""
        balancer = self.balancer
        if self.loss_scale != 1.0:
            for leaf in balancer.engine.leaves:
                leaf.parameter.grad = torch.full_like(leaf.parameter, float("inf"))
            return
        balancer.skipped += 1
        for leaf in balancer.engine.leaves:
            leaf.parameter.grad = None
        for held in balancer.private.values():
            for parameter in held:
                parameter.grad = None

    def _undo_for_private(self, used: Tensor) -> None:
        """Give private parameters their own task's gradient where the whole loss was weighted."""
        for name, held in self.balancer.private.items():
            factor = float(used[self.balancer.tasks.index(name)])
            for parameter in held:
                if parameter.grad is not None and factor not in {0.0, 1.0}:
                    parameter.grad.div_(factor)

    def _write_record(self, step: Step, present: Tensor) -> None:
        """Note Gramian, layers and halves of the present tasks, of gradients without preference or loss scale.

        A task that is given no weight at all has no gradient to be told of.
        """
        present = present[self.balancer.preference[present] > 0]
        names = [self.balancer.tasks[index] for index in present.tolist()]
        undo = 1 / (self.balancer.preference[present] * self.loss_scale)
        outer = torch.outer(undo, undo)

        def kept(gramian: Tensor) -> list[list[float]]:
            values: list[list[float]] = (gramian.cpu()[present][:, present] * outer).tolist()
            return values

        gramian = step.gramian()
        if gramian is None:
            return
        self.record = {"tasks": names, "gramian": kept(gramian)}
        layers = step.layers()
        if layers:
            names = list(dict.fromkeys(leaf.layer for leaf in self.balancer.engine.leaves))
            self.record["layers"] = {name: kept(layers[name]) for name in names if name in layers}
        if step.ledger.halves is not None:
            index = torch.stack([2 * present, 2 * present + 1], dim=1).flatten()
            halves = step.half_gramian().cpu()[index][:, index]
            self.record["half_cosines"] = half_cosines(halves.numpy()).tolist()
