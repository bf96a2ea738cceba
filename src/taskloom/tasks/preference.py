"""Pairs of answers of which one is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from taskloom.errors import ConfigError, DataError, Fault
from taskloom.tasks._chat_templates import ANSWERS, conversation, messages_fault, refusal, template_of
from taskloom.tasks._prompts import answer_ids, prompt_ids
from taskloom.tasks._text import item_of, text_fault
from taskloom.tasks._words import WordsTask, check_end
from taskloom.types import IGNORED, Family, Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Form = Literal["dpo", "simpo", "orpo"]
Answer = tuple[list[int], list[int]]
"""The tokens that follow a prompt, and their labels."""

BETA: dict[Form, float] = {"dpo": 0.1, "simpo": 2.0, "orpo": 0.1}
GAMMA = 1.0
PAIR = ("chosen", "rejected")
LEAST_DOUBT = -1e-6
"""Mean log-probabilities above it are taken for it: of a sure answer the odds are infinite."""


class Preference(WordsTask):
    """Learn to find one answer more probable than another that was judged worse.

    Prefer it to bring a tuned model closer to what people like, where pairs of answers were judged. Do not where there
    is but one right answer to each prompt (`completion`, `chat`).

    Formula: with l_c and l_r the summed log-probabilities of the chosen and the rejected answer, n_c and n_r their
    tokens, and the same of the model before training with a prime:
    dpo: ``-log sigmoid(z)``, ``z = beta ((l_c - l'_c) - (l_r - l'_r))``;
    simpo: ``-log sigmoid(z)``, ``z = beta (l_c / n_c - l_r / n_r) - gamma``;
    orpo: ``-l_c / n_c - beta log sigmoid(log odds_c - log odds_r)``, ``odds = p / (1 - p)``, ``p = exp(l / n)``.
    With smoothing s, dpo and simpo are ``-(1 - s) log sigmoid(z) - s log sigmoid(-z)``.

    Shapes: output [sequence, label token], the negative log-likelihood of each; an item has two sequences, the chosen
    one first.

    Options:
        loss: "dpo" (default), "simpo" or "orpo"; the latter two need no model to compare with.
        beta: how sharply answers are told apart; of orpo, the weight of its second term; null (default) for 0.1 with
            dpo and orpo, 2.0 with simpo.
        gamma: the margin of simpo; null (default) for 1.0, half its beta.
        label_smoothing: how often judgements are wrong, with dpo and simpo (0.0).
        chat_template: for rows of messages: the path of a Jinja file, or its text; null (default) for the tokenizer's.
        max_length: tokens of prompt and answer together (512). Both answers follow the same prompt, which loses its
            beginning; answers get half at most where the prompt is long.

    Errors: `ConfigError` where an option is given that the loss has no use for, or the tokenizer has no token that ends
    a text; `DataError` where dpo lacks what the model before training gave.

    Differs: orpo learns the answer's tokens only, as in the paper; TRL learns the prompt's as well.

    Papers: Rafailov et al., Direct Preference Optimization, NeurIPS 2023, arXiv:2305.18290; Mitchell, A note on DPO
    with noisy preferences, 2023 (smoothing); Meng, Xia and Chen, SimPO, NeurIPS 2024, arXiv:2405.14734; Hong, Lee and
    Thorne, ORPO, EMNLP 2024, arXiv:2403.07691.

    Golden example: rows {"prompt": "Where is my parcel?", "chosen": "It arrives tomorrow.", "rejected": "No idea."}.
    """

    columns = {
        "prompt": "what is asked: a text, or messages",
        "chosen": "the better answer, of the same kind",
        "rejected": "the worse answer, of the same kind",
    }
    identity_columns = ("prompt",)
    families = frozenset({"decoder", "encoder_decoder"})
    predicts = "choice"
    default_metrics = ("accuracy",)

    def __init__(
        self,
        *,
        loss: Form = "dpo",
        beta: Annotated[float, Field(gt=0)] | None = None,
        gamma: Annotated[float, Field(ge=0)] | None = None,
        label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0,
        chat_template: str | None = None,
        max_length: Annotated[int, Field(ge=4)] = 512,
    ) -> None:
        super().__init__(max_length=max_length)
        if gamma is not None and loss != "simpo":
            raise ConfigError(Fault("gamma", "stand beside `loss: simpo` alone", f"`loss: {loss}`", "Delete it"))
        if label_smoothing and loss == "orpo":
            raise ConfigError(Fault("label_smoothing", "be 0 with `loss: orpo`", f"`{label_smoothing}`", "Delete it"))
        self.form: Form = loss
        self.beta = BETA[loss] if beta is None else beta
        self.gamma = GAMMA if gamma is None else gamma
        self.label_smoothing = label_smoothing
        self.chat_template = chat_template
        self.template: str | None = None
        self.tokenizer: PreTrainedTokenizerFast | None = None

    @property
    def needs_reference(self) -> bool:
        """Whether items must hold ``reference``, the summed log-probabilities that the untrained model gives."""
        return self.form == "dpo"

    # --- rows -----------------------------------------------------------------------------------------------------

    def meet(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        """Note the family and the tokenizer, and see that answers can be ended.

        Raises:
            ConfigError: the tokenizer has no token that ends a text.
        """
        super().meet(family, tokenizer)
        check_end(tokenizer)
        self.tokenizer = tokenizer

    def fault(self, row: Row) -> str | None:
        """Find what is no text or no messages, answers that are the same, and what the chat template refuses."""
        if not isinstance(row.get("prompt"), list):
            complaint = text_fault(row, "prompt", *PAIR)
        else:
            complaint = next(
                (said for name in ("prompt", *PAIR) if (said := messages_fault(row.get(name), name))), None
            )
            complaint = complaint or self._refusal(row)
        if complaint is None and row["chosen"] == row["rejected"]:
            return "have another text in `rejected` than in `chosen`"
        return complaint

    def state(self) -> dict[str, Any]:
        """Give the chat template, where rows hold messages."""
        return {"template": self.template}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.template = state["template"]

    def fit(self, rows: Sequence[Row]) -> None:
        """Take the chat template where rows hold messages.

        Raises:
            ConfigError: there is none.
        """
        if self.tokenizer is not None and any(isinstance(row["prompt"], list) for row in rows):
            self._template(self.tokenizer)

    # --- to the backbone ------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of two sequences for each row, the chosen answer's first."""
        for row in rows:
            if isinstance(row["prompt"], list):
                prompt, answers = self._of_messages(row, tokenizer)
            else:
                prompt, answers = self._of_texts(row, tokenizer)
            yield [self._item(prompt, answers)]

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``labels`` [sequence, label token], ``sizes`` [item], and for dpo ``reference`` [item, 2] if known."""
        targets = super().targets(items, tokens)
        before = [item.get("reference") for item in items]
        if not self.needs_reference or any(each is None for each in before):
            return targets
        return targets | {"reference": torch.tensor(before, dtype=torch.float32)}

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the loss of each pair: [item].

        Raises:
            DataError: with dpo, an item lacks what the model before training gave its two answers.
        """
        sums, counts = self.sums(output, targets)
        summed = -sums.view(-1, 2)
        mean = summed / counts.view(-1, 2).clamp(min=1)
        if self.form == "orpo":
            odds = log_odds(mean)
            return -mean[:, 0] - self.beta * functional.logsigmoid(odds[:, 0] - odds[:, 1])
        if self.form == "dpo":
            if "reference" not in targets:
                requirement = "be there for each item of a task with `loss: dpo`"
                fix = "Measure the model before training, or choose `loss: simpo`, which compares with none"
                raise DataError(Fault("reference", requirement, "none", fix))
            gain = summed - targets["reference"].to(summed)
            margin = self.beta * (gain[:, 0] - gain[:, 1])
        else:
            margin = self.beta * (mean[:, 0] - mean[:, 1]) - self.gamma
        wrong = self.label_smoothing
        return -(1 - wrong) * functional.logsigmoid(margin) - wrong * functional.logsigmoid(-margin)

    def terms(self, targets: Mapping[str, Tensor]) -> Tensor:
        """Count one term for each pair: [item]."""
        return torch.ones_like(targets["sizes"])

    # --- back to the user -----------------------------------------------------------------------------------------

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Any]) -> Prediction:
        """Say which answer the model likes better, by what its loss compares.

        That is the log-probability for dpo, less that of the model before training where it is known, and the mean over
        tokens for the others.
        """
        (item,), (output,) = items, outputs
        likings = []
        for place, labels in enumerate(item["labels"]):
            costs = [float(output[place, at]) for at, label in enumerate(labels) if label != IGNORED]
            likings.append(-sum(costs) if self.form == "dpo" else -sum(costs) / max(len(costs), 1))
        before = item.get("reference") if self.needs_reference else None
        if before is not None:
            likings = [liking - there for liking, there in zip(likings, before, strict=True)]
        best = PAIR[0] if likings[0] > likings[1] else PAIR[1]
        kind = "mean" if self.form != "dpo" else "sum" if before is None else "gain"
        named = {name: round(liking, 6) for name, liking in zip(PAIR, likings, strict=True)}
        return Prediction(best, {"log_probability": named, "compared": kind})

    def reference(self, row: Row) -> Any:
        """Give the name of the better answer's column."""
        return PAIR[0]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Choose always the longer answer or always the shorter one, as was better in training; of equals the first."""
        sign = 1 if 2 * sum(_length(row["chosen"]) > _length(row["rejected"]) for row in train) >= len(train) else -1
        return [PAIR[sign * _length(row["chosen"]) < sign * _length(row["rejected"])] for row in rows]

    # --- how a pair is read ---------------------------------------------------------------------------------------

    def _refusal(self, row: Row) -> str | None:
        """Say why rows of messages cannot be read, or None."""
        for name in PAIR:
            if row[name][-1]["role"] != ANSWERS:
                return f"have an assistant's turn last in `{name}`"
            if self.tokenizer is not None and self.family != "encoder_decoder":
                words = refusal(self.tokenizer, self._template(self.tokenizer), [*row["prompt"], *row[name]])
                if words is not None:
                    return f"have messages that the chat template takes, which says: {words}"
        if self.family == "encoder_decoder":
            return "have text in `prompt`, since an encoder-decoder reads no chat template"
        return None

    def _of_messages(self, row: Row, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[Answer]]:
        """Tokenise a pair of conversations: what both begin with, and what follows it of each."""
        template, given = self._template(tokenizer), len(row["prompt"])
        pair = [conversation(tokenizer, template, [*row["prompt"], *row[name]], after=given) for name in PAIR]
        start = min(each.learned.index(True) for each in pair)
        return pair[0].ids[:start], [(each.ids[start:], each.labels[start:]) for each in pair]

    def _of_texts(self, row: Row, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[Answer]]:
        """Tokenise a prompt and its two answers apart; a prompt that is too long loses its beginning."""
        texts = answer_ids(tokenizer, [row[name] for name in PAIR], self.family)
        answers = [[*ids, int(tokenizer.eos_token_id)] for ids in texts]
        whole = (row["prompt"], (0, len(row["prompt"])))
        (prompt,) = prompt_ids(tokenizer, [whole], self.family, self._asked(answers), "end")
        return prompt, [(ids, ids) for ids in answers]

    def _item(self, prompt: list[int], answers: list[Answer]) -> Item:
        """Make the item of a prompt and its two answers, of which an end is learned only where it is kept."""
        asked = prompt[-self._asked([ids for ids, _ in answers]) :]
        if self.family == "encoder_decoder":
            labels = [own[: self.max_length] for _, own in answers]
            return item_of([{"input_ids": asked} for _ in answers], labels=labels, prompt_tokens=len(asked))
        left = self.max_length - len(asked)
        sequences = [{"input_ids": asked + ids[:left]} for ids, _ in answers]
        labels = [[IGNORED] * len(asked) + own[:left] for _, own in answers]
        return item_of(sequences, labels=labels, prompt_tokens=len(asked))

    def _asked(self, answers: Sequence[list[int]]) -> int:
        """Say how many tokens the prompt may have beside its answers."""
        if self.family == "encoder_decoder":
            return self.max_length
        return max(self.max_length - max(map(len, answers)), self.max_length // 2)

    def _template(self, tokenizer: PreTrainedTokenizerFast) -> str:
        if self.template is None:
            self.template = template_of(self.chat_template, tokenizer)
        return self.template


def log_odds(mean: Tensor) -> Tensor:
    """Give ``log(p / (1 - p))`` of a mean log-probability ``log p``, exact where p is near 0 or near 1."""
    held = mean.clamp(max=LEAST_DOUBT)
    return held - torch.log(-torch.expm1(held))


def _length(answer: Any) -> int:
    """Count the characters of a text, or of all messages."""
    return len(answer) if isinstance(answer, str) else sum(len(message["content"]) for message in answer)
