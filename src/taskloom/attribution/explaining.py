"""How much each word adds to an answer: integrated gradients and leave-one-out, with a check that they add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from taskloom.attribution.aims import Aim, Answered, aims_of
from taskloom.attribution.reading import specials
from taskloom.batches.chunks import Padding, collate
from taskloom.errors import MissingExtraError
from taskloom.evaluation import Predictor
from taskloom.model import MultiTaskModel
from taskloom.model.frozen import frozen
from taskloom.model.multitask import unwrapped
from taskloom.prediction import LIMIT_TOKENS, asked_items
from taskloom.run import Run
from taskloom.tasks import Task
from taskloom.types import Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Method = Literal["integrated_gradients", "leave_one_out"]
METHODS: tuple[Method, ...] = ("integrated_gradients", "leave_one_out")
FIRST_STEPS, LIMIT_STEPS = 32, 1024
"""Steps of the integral that are tried first, and at most."""

LEAST_NORM = 0.1
"""How large the embedding of a word that is taken away is at least, as a share of the usual size."""

TOLERANCE = 0.05
"""How far attributions may be from adding up, as a share of what they should add up to."""


@dataclass(frozen=True)
class Word:
    """A word and what it adds.

    Attributes:
        word: itself.
        start: where it begins in the text.
        end: where it ends.
        weight: what it adds to the explained number; negative where it lowers it.
    """

    word: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """One number of one answer, explained.

    Attributes:
        row: which of the rows.
        text: the row's own texts, a line each.
        target: what the number is about.
        words: all words that are read, in order.
        value: the number.
        baseline: what it is without any word.
        completeness_error: how far the weights are from adding up to ``value - baseline``, as a share of it.
        method: by which.
        steps: of the integral; 0 for leave-one-out.
        answer: the model's answer to the row.
        sanity: how alike the words are ranked by a model with random weights; see `taskloom.attribution.sanity`.
    """

    row: int
    text: str
    target: str
    words: list[Word]
    value: float
    baseline: float
    completeness_error: float
    method: str
    steps: int = 0
    answer: Any = None
    sanity: dict[str, float] = field(default_factory=dict)

    @property
    def top(self) -> Word:
        """The word that adds most."""
        return max(self.words, key=lambda word: word.weight)


@dataclass
class Explainer:
    """Attributes numbers of one task's answers to words.

    Args:
        model: in evaluation mode.
        tasks: task name -> task.
        name: of the task.
        tokenizer: the backbone's.
        limit_tokens: tokens of one rectangle.
    """

    model: MultiTaskModel
    tasks: dict[str, Task]
    name: str
    tokenizer: PreTrainedTokenizerFast
    limit_tokens: int = LIMIT_TOKENS

    @property
    def padding(self) -> Padding:
        """How inputs are filled up."""
        return Padding.of(self.tokenizer, self.model.config)

    @property
    def table(self) -> nn.Module:
        """The embedding of words that the backbone reads with."""
        backbone: Any = unwrapped(self.model.backbone)
        reader = backbone.get_encoder() if self.model.family == "encoder_decoder" else backbone
        table: nn.Module = reader.get_input_embeddings()
        return table

    def embedded(self, aim: Aim) -> tuple[Tensor, Tensor, Tensor]:
        """Embed an item, and what is left of it when its words are taken away.

        A word that is taken away becomes what `blank` names; special tokens stay.

        Returns:
            both [sequence, token, width], and which tokens are taken away [sequence, token].
        """
        inputs = collate([(self.name, aim.item)], self.tasks, self.padding).inputs
        ids, real = inputs["input_ids"], inputs["attention_mask"].bool()
        special = torch.tensor(sorted(specials(self.tokenizer)), dtype=ids.dtype)
        taken = real & ~torch.isin(ids, special)
        if aim.kept is not None:
            taken[:, aim.kept :] = False
        device = next(self.model.parameters()).device
        with torch.no_grad():
            given = self.table(ids.to(device))
            blank = self.table(torch.where(taken, self.blank(given), ids).to(device))
        return given, blank, taken.to(device)

    def blank(self, given: Tensor) -> int:
        """Choose the token that stands for a word that is taken away.

        The tokenizer's mask; where it has none its padding, its unknown word or its end, the first whose embedding is
        not next to nought. Of nought, root mean square norms make a leap that no number of steps follows.

        Args:
            given: [sequence, token, width] embeddings of an item, whose size tells what is next to nought.
        """
        tokenizer = self.tokenizer
        named = (tokenizer.mask_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id)
        known = [int(each) for each in named if each is not None]
        least = LEAST_NORM * float(given.float().norm(dim=-1).mean())
        sizes = self.table(torch.tensor(known, device=given.device)).float().norm(dim=-1).tolist()
        held = [each for each, size in zip(known, sizes, strict=True) if size >= least]
        return held[0] if held else self.padding.input_ids

    def values(self, aim: Aim, embeddings: Tensor) -> Tensor:
        """Give the aim's number for other embeddings of its item: [copy, sequence, token, width] -> [copy]."""
        copies, sequences = embeddings.shape[:2]
        chunk = collate([(self.name, aim.item)] * copies, self.tasks, self.padding).to(embeddings.device)
        with self._replaced(embeddings.flatten(0, 1)):
            output = self.model(chunk)[self.name]
        return aim.read(output.reshape(copies, sequences, *output.shape[1:])).float()

    @contextmanager
    def _replaced(self, embeddings: Tensor) -> Iterator[None]:
        """Have the backbone read other embeddings than its table's; once, since some write with the same table."""
        used: list[bool] = []

        def replace(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            if used:
                return output
            used.append(True)
            return embeddings.to(output.dtype)

        handle = self.table.register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()

    def copies_at_once(self, embeddings: Tensor) -> int:
        """Say how many copies of an item make a rectangle."""
        return max(1, self.limit_tokens // (embeddings.shape[0] * embeddings.shape[1]))

    def explain(self, aim: Aim, method: Method, row: int = 0, *, steps: int | None = None) -> Explanation:
        """Attribute an aim's number to words.

        Args:
            aim: what is explained.
            method: by what.
            row: the row's number, to be told.
            steps: of the integral; None doubles them until the attributions add up, or there are `LIMIT_STEPS`.
        """
        given, blank, taken = self.embedded(aim)
        with torch.no_grad():
            value, baseline = (float(self.values(aim, each.unsqueeze(0))[0]) for each in (given, blank))
        if method == "leave_one_out":
            weights = self._by_word(aim, self.leave_one_out(aim, given, blank, taken, value))
            return self._told(aim, row, weights, value, baseline, method, 0)
        tried = steps or FIRST_STEPS
        while True:
            weights = self._by_word(aim, self.integrated_gradients(aim, given, blank, tried))
            found = self._told(aim, row, weights, value, baseline, method, tried)
            if steps is not None or tried >= LIMIT_STEPS or found.completeness_error < TOLERANCE:
                return found
            tried *= 2

    def integrated_gradients(self, aim: Aim, given: Tensor, blank: Tensor, steps: int) -> Tensor:
        """Give each token's integrated gradient: [sequence, token].

        Formula: ``a_t = sum_d (x_td - b_td) int_0^1 df/dx_td (b + s (x - b)) ds`` over the width d of token t's
        embedding x, with baseline b; the integral by captum, of Gauss and Legendre. They add up to ``f(x) - f(b)``.

        Raises:
            MissingExtraError: captum is not installed.

        Paper: Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017, arXiv:1703.01365.
        """
        try:
            from captum.attr import IntegratedGradients
        except ImportError as error:
            raise MissingExtraError("captum", "explain", "attribute answers by integrated gradients") from error

        method = IntegratedGradients(lambda embeddings: self.values(aim, embeddings))
        with frozen(self.model):
            found: Tensor = method.attribute(
                given.unsqueeze(0).float(),
                baselines=blank.unsqueeze(0).float(),
                n_steps=steps,
                internal_batch_size=self.copies_at_once(given),
            )
        return found[0].sum(dim=-1).detach()

    def leave_one_out(self, aim: Aim, given: Tensor, blank: Tensor, taken: Tensor, value: float) -> Tensor:
        """Give what the number loses when each token alone is taken away: [sequence, token]."""
        places = taken.nonzero()
        weights = torch.zeros(taken.shape, dtype=torch.float64)
        with torch.no_grad():
            for start in range(0, len(places), self.copies_at_once(given)):
                part = places[start : start + self.copies_at_once(given)]
                copies = given.unsqueeze(0).repeat(len(part), 1, 1, 1)
                index = torch.arange(len(part), device=part.device)
                copies[index, part[:, 0], part[:, 1]] = blank[part[:, 0], part[:, 1]]
                weights[part[:, 0].cpu(), part[:, 1].cpu()] = value - self.values(aim, copies).double().cpu()
        return weights

    def _by_word(self, aim: Aim, weights: Tensor) -> dict[int, float]:
        """Add up the weights of each word's tokens."""
        sums: dict[int, float] = {}
        held = weights.double().cpu().numpy()
        for sequence, words in enumerate(aim.reading.word_of()):
            for place, word in enumerate(words[: aim.kept]):
                if word is not None:
                    sums[word] = sums.get(word, 0.0) + float(held[sequence, place])
        return sums

    def _told(
        self, aim: Aim, row: int, weights: dict[int, float], value: float, baseline: float, method: str, steps: int
    ) -> Explanation:
        text, spans = aim.reading.text, aim.reading.words
        words = [Word(text[slice(*spans[word])], *spans[word], weight) for word, weight in sorted(weights.items())]
        difference, total = value - baseline, sum(weights.values())
        off = abs(total - difference)
        error = off / abs(difference) if difference else (float("inf") if off else 0.0)
        return Explanation(row, text, aim.target, words, value, baseline, error, method, steps)


def explainer_of(run: Run, name: str) -> Explainer:
    """Make the explainer of one task of a run."""
    model, tasks, tokenizer = run.loaded()
    return Explainer(model, tasks, name, tokenizer)


def answered_rows(
    explainer: Explainer, rows: Sequence[Row], items: Sequence[Item], words: Sequence[int] | None = None
) -> Iterator[Answered]:
    """Answer rows, and keep what their answers were made of."""
    name, task = explainer.name, explainer.tasks[explainer.name]
    predictor = Predictor(
        explainer.model, explainer.tasks, explainer.padding, explainer.limit_tokens, explainer.tokenizer
    )
    for row, own, outputs in predictor.answered(name, rows, items):
        prediction = task.decode(row, own, outputs)
        yield Answered(task, row, own, outputs, prediction, explainer.tokenizer, words)


def explain(
    run: Run,
    task: str,
    rows: Sequence[Row],
    *,
    method: Method = "integrated_gradients",
    words: Sequence[int] | None = None,
    sanity: bool = False,
    seed: int = 0,
) -> list[Explanation]:
    """Explain a finished run's answers to rows of one task.

    Args:
        run: the run.
        task: the task's name.
        rows: [example]; answers may be absent, since the model's own are explained.
        method: by what.
        words: of tagging, the numbers of the words whose tags are explained; by default those with a tag.
        sanity: whether to hold each explanation against those of models with random weights.
        seed: of the random weights.

    Returns:
        one explanation for each number, those of a row side by side.

    Raises:
        DataError: the run has no such task, a row lacks a column, or the task's answers cannot be explained.
        MissingExtraError: the method needs captum, which is not installed.
    """
    from taskloom.attribution.sanity import checked

    items = asked_items(run, task, rows)
    explainer, found, aims = explainer_of(run, task), [], []
    explainer.model.eval()
    for number, answered in enumerate(answered_rows(explainer, rows, items, words)):
        for aim in aims_of(answered):
            aims.append(aim)
            found.append(replace(explainer.explain(aim, method, number), answer=answered.prediction.value))
    return checked(explainer, aims, found, method, seed) if sanity else found
