"""A tag for every token of a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taskloom.tasks import Floats, Odds, Task
from taskloom.tasks._heads import TokenHead, padded
from taskloom.tasks._labels import LabelledTask
from taskloom.tasks._losses import ClassWeights, FocalGamma, LabelLoss, LabelSmoothing, NoiseRobustness
from taskloom.tasks._soft import LESSON, Pupil, SoftDistillation, divergence, has_lessons, other_labels, reordered
from taskloom.tasks._text import item_of, sequence_of
from taskloom.types import IGNORED, Item, Prediction, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class TokenClassification(Pupil, LabelledTask):
    """Give every token of a sentence a tag: entities, slots, parts of speech.

    Prefer it where the answer lies in the text and its kinds are known. Do not where a question asks for one place
    (`extractive_qa`).

    Formula: ``loss_i = mean_w -log softmax(W dropout(h_w) + b)[tag_w]`` over the words w of example i; a word is read
    at its first sub-word piece. The options of the loss put another form in the logarithm's place, and a weight before.
    With a teacher of logits t_w, s of share and T of temperature, the mean is over ``(1 - s) loss_w + s T^2
    KL(softmax(t_w / T) || softmax(z_w / T))``, z_w the logits.

    Shapes: output [sequence, token, label].

    Options:
        max_length: sub-word tokens after which a sentence is cut (256); words beyond it are tagged "O".
        scheme: "bio" (tags are O, B-x, I-x; decoding never gives I-x without a B-x or I-x before it) or "plain".
        dropout: on the tokens' vectors, 0.1 as in BERT.
        label_smoothing: share of the loss that all labels have alike (0), against too sure answers (0.1 is usual).
        focal_gamma: how much less a word counts that is right already (0: not at all; 2 in the paper).
        noise_robustness: q of the loss that bounds what a wrongly tagged word can cost (0: no bound; 0.7 in the paper).
        class_weights: "balanced" (``n / (L n_c)`` over the L tags: rare ones count more, all together as much as
            before), or a mapping of tags to weights, of which only the proportions matter; null (default) for none.
        distillation: `teacher`, the folder of a finished run with a task of the same tags; `task`, its name (by
            default this task's); `temperature` (2.0); `share` (0.5), what the teacher has of the loss; null for none.
            Words that the teacher cuts off are learned from their tags alone.

    Errors: `DataError` where training has fewer than two tags, or `class_weights` names another; `ConfigError` where
    `noise_robustness` stands beside another form.

    Papers: Lin et al., Focal Loss, ICCV 2017, arXiv:1708.02002; Zhang and Sabuncu, Generalized Cross Entropy
    Loss, NeurIPS 2018, arXiv:1805.07836; Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015,
    arXiv:1503.02531.

    Golden example: rows {"tokens": ["to", "New", "York"], "tags": ["O", "B-city", "I-city"]}.
    """

    columns = {"tokens": "the list of words", "tags": "the list of their tags, of the same length"}
    identity_columns = ("tokens",)
    predicts = "tags"
    default_metrics = ("span_f1",)
    label_column = "tags"

    def __init__(
        self,
        *,
        max_length: int = 256,
        scheme: Literal["bio", "plain"] = "bio",
        dropout: float = 0.1,
        label_smoothing: LabelSmoothing = 0.0,
        focal_gamma: FocalGamma = 0.0,
        noise_robustness: NoiseRobustness = 0.0,
        class_weights: ClassWeights = None,
        distillation: SoftDistillation | None = None,
    ) -> None:
        form = LabelLoss(label_smoothing, focal_gamma, noise_robustness)
        super().__init__(max_length=max_length, form=form, class_weights=class_weights)
        self.learn_from(distillation)
        self.scheme = scheme
        self.dropout = dropout

    def labels_of(self, row: Row) -> Iterable[Any]:
        """Give all tags of a row."""
        tags: list[Any] = row["tags"]
        return tags

    def fault(self, row: Row) -> str | None:
        """Find empty sentences, tags and tokens of different length, and tags outside the scheme."""
        tokens, tags = row.get("tokens"), row.get("tags")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            return "have a list of texts in `tokens`"
        if not any(token.strip() for token in tokens):
            return "have text in `tokens`, which is empty"
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            return "have a list of texts in `tags`"
        if len(tokens) != len(tags):
            return f"have as many `tags` as `tokens`, not {len(tags)} and {len(tokens)}"
        wrong = [tag for tag in tags if tag != "O" and (tag[:2] not in {"B-", "I-"} or len(tag) < 3)]
        if wrong and self.scheme == "bio":
            return f"have tags of the form O, B-x or I-x in `tags`, not `{wrong[0]}`; set `scheme: plain` for others"
        return None

    def completed(self, labels: list[Any]) -> list[Any]:
        """Add B-x beside every I-x, so that decoding can begin a span, and O."""
        begins = {f"B-{tag[2:]}" for tag in labels if tag.startswith("I-")}
        return sorted({*labels, *begins, "O"}) if self.scheme == "bio" else labels

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of one sequence for each row, each word's tag at its first piece."""
        sentences = [row["tokens"] for row in rows]
        if needs_blanks(tokenizer):
            sentences = [
                [word if not place or not word else f" {word}" for place, word in enumerate(words)]
                for words in sentences
            ]
        batch = tokenizer(sentences, is_split_into_words=True, truncation=True, max_length=self.max_length)
        for index, row in enumerate(rows):
            words = batch.word_ids(index)
            first = [word is not None and word not in words[:place] for place, word in enumerate(words)]
            pieces = [place for place, is_first in enumerate(first) if is_first]
            tags = row.get("tags") or []
            labels = [IGNORED] * len(words)
            for place in pieces:
                if words[place] < len(tags):
                    labels[place] = self.ids.get(tags[words[place]], IGNORED)
            positions, held = pieces, [words[place] for place in pieces]
            yield [item_of([sequence_of(batch, index)], tags=labels, positions=positions, words=held)]

    def head(self, width: int) -> nn.Module:
        """Make the linear map from each token to the tags."""
        return TokenHead(width, len(self.labels), self.dropout)

    def targets(self, items: Sequence[Item], tokens: int) -> dict[str, Tensor]:
        """Give ``tags`` [item, token] int64, -100 where no loss is formed.

        Where there is a teacher, also ``teacher`` [item, token, label], not a number where it says nothing.
        """
        tags = {"tags": padded([item["tags"] for item in items], tokens, IGNORED)}
        if self.distillation is None or not has_lessons(items):
            return tags
        said = torch.full((len(items), tokens, len(self.labels)), float("nan"))
        for index, item in enumerate(items):
            said[index, item["positions"]] = torch.from_numpy(np.asarray(item[LESSON], dtype=np.float32))
        return {**tags, LESSON: said}

    def loss(self, output: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Give the mean over each item's words of the cross-entropy, or of the form that was asked for: [item].

        Where there is a teacher, what differs from its answer has a share.
        """
        tags = targets["tags"]
        each = self.form(output, tags, self.weights_for(output))
        if LESSON in targets:
            heard = ~targets[LESSON].isnan().any(dim=-1) & (tags != IGNORED)
            soft = divergence(output, targets[LESSON].nan_to_num(), self.temperature)
            each = torch.where(heard, self.blended(each, soft), each)
        return each.sum(dim=1) / (tags != IGNORED).sum(dim=1).clamp(min=1)

    def objection(self, teacher: Task) -> tuple[str, str] | None:
        """Refuse a teacher of another type, or of other tags."""
        return super().objection(teacher) or other_labels(self.labels, getattr(teacher, "labels", ()))

    def lesson(self, teacher: Task, output: Floats, taught: Item, item: Item) -> Floats:
        """Give the teacher's logits of each word that this task reads, whatever pieces either sees: [word, label]."""
        assert isinstance(teacher, LabelledTask)
        said = np.full((len(item["words"]), len(self.labels)), np.nan, dtype=np.float32)
        place_of = dict(zip(taught["words"], taught["positions"], strict=True))
        for place, word in enumerate(item["words"]):
            if word in place_of:
                said[place] = reordered(output[0][place_of[word]], self.labels, teacher.ids)
        return said

    def terms(self, targets: Mapping[str, Tensor]) -> Tensor:
        """Count each item's labelled words: [item]."""
        return (targets["tags"] != IGNORED).sum(dim=1)

    def decode(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Prediction:
        """Give the likeliest sequence of tags that the scheme allows; words without a piece are "O"."""
        item, logits = items[0], outputs[0][0][items[0]["positions"]]
        path, scores = self._path(logits), log_softmax(logits / self.calibration)
        outside = "O" if self.scheme == "bio" else self.labels[0]
        tags = [outside] * len(row["tokens"])
        sure = [1.0] * len(tags)
        for place, word in enumerate(item["words"]):
            tags[word] = self.labels[int(path[place])]
            sure[word] = round(float(np.exp(scores[place, path[place]])), 6)
        return Prediction(tags, {"probabilities": sure})

    def odds(self, row: Row, items: Sequence[Item], outputs: Sequence[Floats]) -> Odds | None:
        """Give a choice among all tags for each word that is read."""
        item, logits = items[0], outputs[0][0][items[0]["positions"]]
        tags = row.get("tags") or []
        right = [self.ids.get(tags[word], -1) if word < len(tags) else -1 for word in item["words"]]
        return Odds(logits, self._path(logits), np.array(right, dtype=np.int64))

    def _path(self, logits: Floats) -> NDArray[np.int64]:
        """Find the likeliest tags that the scheme allows: [word], from logits [word, label]."""
        scores = log_softmax(logits)
        path: NDArray[np.int64] = best_path(scores, self._allowed()) if self.scheme == "bio" else scores.argmax(axis=1)
        return path

    def reference(self, row: Row) -> Any:
        """Give the row's tags."""
        return row["tags"]

    def baseline(self, train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
        """Answer with the most frequent training tag for every word."""
        return constant_tags(train, rows)

    def describe(self, row: Row, item: Item) -> list[tuple[str, str]]:
        """List each word with its tag."""
        tags = row.get("tags") or []
        return [("tags", "  ".join(f"{word}/{tag}" for word, tag in zip(row["tokens"], tags, strict=False)))]

    def _allowed(self) -> NDArray[np.bool_]:
        """Give [label, label], true where the second tag may follow the first; the last row is the sentence's start."""
        size = len(self.labels)
        allowed = np.ones((size + 1, size), dtype=bool)
        for follower, tag in enumerate(self.labels):
            if tag.startswith("I-"):
                allowed[:, follower] = False
                for before in (f"B-{tag[2:]}", tag):
                    allowed[self.ids[before], follower] = True
        return allowed


def constant_tags(train: Sequence[Row], rows: Sequence[Row]) -> list[Any]:
    """Answer rows with the most frequent training tag for every word."""
    tag = Counter(tag for row in train for tag in row["tags"]).most_common(1)[0][0]
    return [[tag] * len(row["tokens"]) for row in rows]


def needs_blanks(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Find out whether words that come apart are read as if no blank stood between them.

    Byte-level tokenizers (RoBERTa, ModernBERT) do so unless made with `add_prefix_space`, and the backbone then sees
    pieces that it never met in its pretraining.
    """
    joined = tokenizer("a b")["input_ids"]
    apart, blank = (tokenizer(words, is_split_into_words=True)["input_ids"] for words in (["a", "b"], ["a", " b"]))
    return bool(apart != joined and blank == joined)


def log_softmax(logits: Floats) -> Floats:
    """Give log-probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def best_path(scores: Floats, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Find the sequence of labels with the greatest sum of scores among the allowed ones (Viterbi).

    Args:
        scores: [word, label].
        allowed: [label + 1, label]; the last row says which labels may come first.

    Returns:
        [word] label indices.
    """
    penalty = np.where(allowed, 0.0, -np.inf)
    if not len(scores):
        return np.zeros(0, dtype=np.int64)
    total = scores[0] + penalty[-1]
    back = np.zeros(scores.shape, dtype=np.int64)
    for word in range(1, len(scores)):
        arriving = total[:, None] + penalty[:-1]
        back[word] = arriving.argmax(axis=0)
        total = arriving.max(axis=0) + scores[word]
    path = np.empty(len(scores), dtype=np.int64)
    path[-1] = total.argmax()
    for word in range(len(scores) - 1, 0, -1):
        path[word - 1] = back[word, path[word]]
    return path
