"""The place in a text that answers a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from taskloom.tasks import Floats, Task
from taskloom.tasks._heads import TokenHead
from taskloom.tasks._losses import FocalGamma, LabelLoss, LabelSmoothing, NoiseRobustness
from taskloom.tasks._text import item_of, sequence_of, text_fault
from taskloom.tasks.classification import softmax
from taskloom.types import Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONSTANT_RULES = (1, 2, 3, 5, 8, 12, 20, 40, 10_000)
"""How many words the constant answers of the baseline take from the context's beginning or end."""


class ExtractiveQa(Task):
    """Find the words of a text that answer a question, in the form of SQuAD; a question may have no answer.

    Prefer it where the answer stands word for word in a text. Do not where the kinds of answer are known before
    (`token_classification`).

    Formula: ``loss_i = (CE(start_i) + CE(end_i)) / 2`` over the tokens of a window; a window without the answer points
    at its first token. Score of an answer: ``start logit + end logit`` over all windows. The options of the loss put
    another form in the cross-entropy's place.

    Shapes: output [sequence, token, 2].

    Options:
        max_length: tokens of a window, question included (384); of a question at most a third of them is kept.
        stride: tokens that neighbouring windows share (128), at most half of max_length.
        max_answer_length: tokens of the longest answer (30).
        n_best: how many answers are weighed and kept in the prediction's detail (20; 5 are kept).
        null_threshold: how far "no answer" must lead to be given, where training has such rows (0.0).
        dropout: on the tokens' vectors, 0.1 as in BERT.
        label_smoothing: share of the loss that all tokens have alike (0), against too sure answers (0.1 is usual).
        focal_gamma: how much less a place counts that is right already (0: not at all; 2 in the paper).
        noise_robustness: q of the loss that bounds what a wrong answer can cost (0: no bound; 0.7 in the paper).

    Errors: `ConfigError` where `noise_robustness` stands beside another form.

    Cost: a long text costs one sequence for each window.

    Papers: Devlin et al., BERT, NAACL 2019, arXiv:1810.04805, section 4.2;
    Lin et al., Focal Loss, ICCV 2017, arXiv:1708.02002; Zhang and Sabuncu, Generalized Cross Entropy
    Loss, NeurIPS 2018, arXiv:1805.07836.

    Golden example: rows {"question": "Who left?", "context": "Ann left.", "answers": {"text": ["Ann"],
    "answer_start": [0]}}.
    """

    columns = {
        "question": "what is asked",
        "context": "the text that holds the answer",
        "answers": "`text` and `answer_start`, a list each; empty lists where there is no answer",
    }
    optional_columns = {"id": "the question's identifier"}
    identity_columns = ("context",)
    predicts = "text"
    windows = True
    default_metrics = ("squad_f1", "exact_match")

    def __init__(
        self,
        *,
        max_length: Annotated[int, Field(ge=32)] = 384,
        stride: Annotated[int, Field(ge=0)] = 128,
        max_answer_length: Annotated[int, Field(ge=1)] = 30,
        n_best: Annotated[int, Field(ge=1)] = 20,
        null_threshold: float = 0.0,
        dropout: float = 0.1,
        label_smoothing: LabelSmoothing = 0.0,
        focal_gamma: FocalGamma = 0.0,
        noise_robustness: NoiseRobustness = 0.0,
    ) -> None:
        super().__init__(max_length=max_length)
        self.stride = stride
        self.max_answer_length = max_answer_length
        self.n_best = n_best
        self.null_threshold = null_threshold
        self.dropout = dropout
        self.form = LabelLoss(label_smoothing, focal_gamma, noise_robustness)
        self.unanswerable = False

    # --- rows -----------------------------------------------------------------------------------------------------

    def fault(self, row: Row) -> str | None:
        """Find empty texts, answers of a wrong form, and answers that do not stand at their offset."""
        found = text_fault(row, "question", "context")
        answers = row.get("answers")
        if found or not isinstance(answers, Mapping) or {"text", "answer_start"} - answers.keys():
            return found or "have `text` and `answer_start` in `answers`"
        texts, starts = answers["text"], answers["answer_start"]
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            return "have as many `answers.text` as `answers.answer_start`"
        for text, start in zip(texts, starts, strict=True):
            if not isinstance(text, str) or not isinstance(start, int) or start < 0 or not text.strip():
                return f"have texts and offsets in `answers`, not `{text}` and `{start}`"
            there = row["context"][start : start + len(text)]
            if there != text:
                return f"have its answer `{text}` at offset {start} of `context`, where `{there}` stands"
        return None

    def fit(self, rows: Sequence[Row]) -> None:
        """Note whether training has questions without an answer."""
        self.unanswerable = any(not row["answers"]["text"] for row in rows)

    def state(self) -> dict[str, Any]:
        """Give whether "no answer" can be said."""
        return {"unanswerable": self.unanswerable}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take that back."""
        self.unanswerable = bool(state["unanswerable"])

    # --- to the backbone ------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item for each window of each row's context."""
        if not rows:
            return
        batch = tokenizer(
            self._questions(rows, tokenizer),
            [row["context"] for row in rows],
            truncation="only_second",
            max_length=self.max_length,
            stride=min(self.stride, self.max_length // 2),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        windows: list[list[Item]] = [[] for _ in rows]
        for index, owner in enumerate(batch["overflow_to_sample_mapping"]):
            held = [kind == 1 for kind in batch.sequence_ids(index)]
            offsets = [
                pair if inside else (-1, -1) for pair, inside in zip(batch["offset_mapping"][index], held, strict=True)
            ]
            start, end = _target(rows[owner], offsets)
            item = item_of(
                [sequence_of(batch, index)],
                start=start,
                end=end,
                begins=[pair[0] for pair in offsets],
                ends=[pair[1] for pair in offsets],
            )
            windows[owner].append(item)
        yield from windows

    def _questions(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> list[str]:
        """Give the questions, cut where the context would be left without room: the tokenizer would end the process."""
        questions = [row["question"] for row in rows]
        limit = max(self.max_length // 3 - tokenizer.num_special_tokens_to_add(pair=True), 1)
        looked = tokenizer(
            questions, add_special_tokens=False, truncation=True, max_length=limit + 1, return_offsets_mapping=True
        )
        return [
            question[: places[limit - 1][1]] if len(places) > limit else question
            for question, places in zip(questions, looked["offset_mapping"], strict=True)
        ]

    def head(self, width: int) -> nn.Module:
        """Make the linear map from each token to its two scores: first and last of the answer."""
        return TokenHead(width, 2, self.dropout)

    # --- learning -------------------------------------------------------------------------------------------------

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``start`` and ``end`` [item], and ``allowed`` [item, token]: the context and the first token."""
        allowed = torch.zeros(len(items), tokens, dtype=torch.bool)
        for place, item in enumerate(items):
            allowed[place, : len(item["begins"])] = torch.tensor(item["begins"]) >= 0
            allowed[place, 0] = True
        start, end = ([item[key] for item in items] for key in ("start", "end"))
        return {"start": torch.tensor(start), "end": torch.tensor(end), "allowed": allowed}

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the mean of both cross-entropies of each item, or of the form of them that was asked for: [item]."""
        allowed = targets["allowed"]
        scores = output.masked_fill(~allowed.unsqueeze(-1), float("-inf"))
        start = self.form(scores[..., 0], targets["start"], allowed=allowed)
        end = self.form(scores[..., 1], targets["end"], allowed=allowed)
        return (start + end) / 2

    # --- back to the user -----------------------------------------------------------------------------------------

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Prediction:
        """Give the best answer over all windows, its place, and the runners-up."""
        found: list[tuple[float, int, int]] = []
        null = np.inf
        for item, output in zip(items, outputs, strict=True):
            inside = np.array(item["begins"]) >= 0
            inside[0] = True
            scores = np.where(inside[:, None], output[0], -np.inf).T
            null = min(null, float(scores[:, 0].sum()))
            found.extend(self._spans(scores, item))
        found.sort(reverse=True)
        kept: dict[str, tuple[float, int]] = {}
        for score, begin, end in found[: self.n_best]:
            kept.setdefault(row["context"][begin:end], (score, begin))
        # A context of invisible characters alone has no token that could be an answer.
        if not found or (self.unanswerable and null - found[0][0] > self.null_threshold):
            kept = {"": (null, -1), **kept}
        ranked = list(kept.items())
        chances = softmax(np.array([score for _, (score, _) in ranked], dtype=np.float32))
        best = [
            {"text": text, "start": begin, "probability": round(float(chance), 6)}
            for (text, (_, begin)), chance in zip(ranked, chances, strict=True)
        ]
        return Prediction(ranked[0][0], {"n_best": best[:5]})

    def reference(self, row: Row) -> Any:
        """Give the texts that count as right; none where there is no answer."""
        return list(row["answers"]["text"])

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the best constant rule on the training rows.

        The rules: nothing; the commonest training answer; the first or the last n words of the context; all of it.
        """
        from taskloom.metrics.squad_f1 import SquadF1

        texts = Counter(text for row in train for text in row["answers"]["text"])
        commonest = texts.most_common(1)[0][0] if texts else ""
        parts = [slice(count) for count in CONSTANT_RULES] + [slice(-count, None) for count in CONSTANT_RULES]
        rules: list[Callable[[list[str]], str]] = [lambda _: "", lambda _: commonest, *map(_part_of, parts)]
        sample = train[:1000]
        words = [row["context"].split() for row in sample]
        right = [self.reference(row) for row in sample]
        best = max(rules, key=lambda rule: SquadF1().score([rule(w) for w in words], right))
        return [best(row["context"].split()) for row in rows]

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """Show the answer that a window trains on."""
        if not item["start"]:
            return [("answer", "not in this window")]
        return [("answer", row["context"][item["begins"][item["start"]] : item["ends"][item["end"]]])]

    def _spans(self, scores: Floats, item: Item) -> Iterator[tuple[float, int, int]]:
        """Give the likeliest spans of one window, of all that are short enough: score, first and last character."""
        begins, ends = item["begins"], item["ends"]
        held = [place for place, begin in enumerate(begins) if begin >= 0]
        if not held:
            return
        count, longest = len(held), min(self.max_answer_length, len(held))
        table = np.full((count, longest), -np.inf, dtype=scores.dtype)
        for more in range(longest):
            table[: count - more, more] = scores[0, held[: count - more]] + scores[1, held[more:]]
        for place in np.argsort(-table, axis=None, kind="stable")[: self.n_best]:
            start, more = divmod(int(place), longest)
            if start + more < count:
                yield float(table[start, more]), begins[held[start]], ends[held[start + more]]


def _part_of(part: slice) -> Callable[[list[str]], str]:
    """Make the rule that answers with some of the context's words."""
    return lambda words: " ".join(words[part])


def _target(row: Row, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Find the tokens that hold the first answer; (0, 0) where the window does not hold all of it."""
    answers = row.get("answers") or {"text": []}
    if not answers["text"]:
        return 0, 0
    # Tokens hold no blanks, so an answer written with one at its edge would lie in none of them.
    text, begin = answers["text"][0], answers["answer_start"][0]
    begin, end = begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())
    start_token = next((i for i, (a, b) in enumerate(offsets) if a >= 0 and a <= begin < b), None)
    end_token = next((i for i, (a, b) in enumerate(offsets) if a >= 0 and a < end <= b), None)
    return (0, 0) if start_token is None or end_token is None else (start_token, end_token)
