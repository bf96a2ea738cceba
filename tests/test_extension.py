"""A new method is one file: listed, accepted, trained, scored and held to the laws without a line elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import taskloom

TESTS = Path(__file__).parent

METRIC = '''"""Accuracy that gives every label the same say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from taskloom.metrics import Metric


class BalancedAccuracy(Metric):
    """Mean over labels of the share of their examples that are found.

    Prefer it where rare labels matter as much as frequent ones. Do not where precision matters too; take `macro_f1`.

    Formula: ``(1/L) sum_l (1/n_l) sum_{i: reference_i = l} [prediction_i = l]``.
    Differs: no difference from scikit-learn's ``balanced_accuracy_score``.

    >>> BalancedAccuracy().score(["a", "a", "b"], ["a", "b", "b"])
    0.75
    """

    accepts = frozenset({"label"})

    def score(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """Give the mean recall; see the class."""
        found = defaultdict(list)
        for prediction, reference in zip(predictions, references, strict=True):
            found[reference].append(prediction == reference)
        return sum(sum(each) / len(each) for each in found.values()) / len(found)
'''

TASK = '''"""Yes or no to a question about a passage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from taskloom.tasks._text import encode_texts, item_of, text_fault
from taskloom.tasks.classification import Classification
from taskloom.types import Item, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class YesNo(Classification):
    """Answer a question about a passage with yes or no.

    Prefer it for questions in the form of BoolQ. Do not where the answer is a part of the passage (`extractive_qa`).

    Formula: as `classification`, with the two labels true and false.

    Shapes: output [sequence, 2].

    Options:
        max_length: tokens after which question and passage are cut (256).
        pooling: "mean" of the tokens, or "first" token.
        dropout: on the pooled vector, 0.1 as in BERT.
        label_smoothing: as in `classification`.
        focal_gamma: as in `classification`.
        noise_robustness: as in `classification`.
        class_weights: as in `classification`.
        distillation: as in `classification`.

    Errors: none of its own.

    Golden example: rows {"question": "is it on fire", "passage": "The server is on fire.", "label": True}.
    """

    columns = {"question": "a question", "passage": "a text that answers it", "label": "true or false"}
    optional_columns = {}
    identity_columns = ("question", "passage")
    default_metrics = ("accuracy", "balanced_accuracy")

    def fault(self, row: Row) -> str | None:
        """Find empty texts and answers that are neither true nor false."""
        wrong = not isinstance(row.get("label"), bool)
        return text_fault(row, "question", "passage") or ("have true or false in `label`" if wrong else None)

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn nothing: the labels are known."""
        self._set([False, True])

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Item]]:
        """Give one item of one sequence for each row: the question, then the passage."""
        questions, passages = [row["question"] for row in rows], [row["passage"] for row in rows]
        for row, sequence in zip(rows, encode_texts(tokenizer, questions, passages, self.max_length), strict=True):
            yield [item_of([sequence], label=self.ids.get(row.get("label"), -1))]
'''

ELSEWHERE = '''"""Methods that live outside of Taskloom."""

from taskloom.metrics.accuracy import Accuracy
from taskloom.tasks.classification import Classification


class Mine(Classification):
    """Choose one label, my way."""

    def __init__(self, *, max_length: int = 64, boldness: float = 1.0) -> None:
        super().__init__(max_length=max_length)
        self.boldness = boldness


class HalfAccuracy(Accuracy):
    """Half of the accuracy."""

    perfect = 0.5

    def score(self, predictions, references):
        """Give half of it."""
        return super().score(predictions, references) / 2

    def resample(self, predictions, references, counts):
        """Give half of each."""
        return super().resample(predictions, references, counts) / 2
'''

SCRIPT = """
import json, sys
from pathlib import Path

import pytest

import taskloom
from taskloom.cli.listing import run_list

assert Path(taskloom.__file__).parents[1] == Path.cwd(), taskloom.__file__
run_list(None)
run = taskloom.train(json.loads(Path("run.json").read_text()), "out")
(answer,) = run.predict("boolean", [{"question": "is it late", "passage": "It is late."}])
told = {
    "scores": [[score.task, score.metric] for score in run.scores],
    "answer": answer.value,
    "loaded": type(run.loaded()[1]["mine"]).__module__,
    "boldness": run.loaded()[1]["mine"].boldness,
}
Path("told.json").write_text(json.dumps(told))
tests = Path(sys.argv[1])
sys.exit(
    pytest.main(
        ["-q", "-p", "no:cacheprovider", "-k", "yes_no or balanced_accuracy", "--rootdir", str(tests.parent), "-rA"]
        + [str(tests / "laws"), str(tests / "test_house.py"), "taskloom/metrics/balanced_accuracy.py"]
        + ["--doctest-modules"]
    )
)
"""


def told(folder: Path, encoder: Path, data: Path) -> tuple[str, dict[str, Any]]:
    """Copy the package, add one file to each of two rooms, and use them in one process: what it prints and notes."""
    shutil.copytree(
        Path(taskloom.__file__).parent, folder / "taskloom", ignore=shutil.ignore_patterns("__pycache__")
    )  # fmt: skip
    (folder / "taskloom" / "metrics" / "balanced_accuracy.py").write_text(METRIC, encoding="utf-8")
    (folder / "taskloom" / "tasks" / "yes_no.py").write_text(TASK, encoding="utf-8")
    (folder / "elsewhere.py").write_text(ELSEWHERE, encoding="utf-8")
    passages = [
        ("is it late", f"It is {'late' if n % 2 else 'early'}, said person {n}.", bool(n % 2)) for n in range(40)
    ]
    rows = [{"question": question, "passage": passage, "label": label} for question, passage, label in passages]
    (folder / "boolean.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(run_of(folder, encoder, data)), encoding="utf-8")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(folder), "TASKLOOM_HOME": str(folder / "home"), "COLUMNS": "200"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        [sys.executable, "script.py", str(TESTS)],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout, json.loads((folder / "told.json").read_text(encoding="utf-8"))


def run_of(folder: Path, encoder: Path, data: Path) -> dict[str, Any]:
    return {
        "model": {"name_or_path": str(encoder)},
        "tasks": {
            "boolean": {"type": "yes_no", "data": str(folder / "boolean.jsonl"), "max_length": 32},
            "mine": {
                "type": "elsewhere:Mine",
                "data": str(data / "intent"),
                "boldness": 2.5,
                "metrics": ["balanced_accuracy", "elsewhere:HalfAccuracy"],
            },
        },
        "training": {"max_steps": 1, "per_device_train_batch_size": 4, "eval_strategy": "no"},
        "evaluation": {"resamples": 100},
    }


def test_a_new_file_joins_everything_and_a_method_elsewhere_is_named_in_full(
    tiny_encoder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    said, noted = told(tmp_path, tiny_encoder, tiny_data)
    shown = " ".join(said.split())
    assert "balanced_accuracy Mean over labels of the share of their examples that are found." in shown
    assert "yes_no Answer a question about a passage with yes or no." in shown

    assert noted["scores"] == [
        ["boolean", "accuracy"],
        ["boolean", "balanced_accuracy"],
        ["mine", "balanced_accuracy"],
        ["mine", "elsewhere:HalfAccuracy"],
        ["composite", "composite"],
    ]
    assert noted["answer"] in (True, False)
    assert (noted["loaded"], noted["boldness"]) == ("elsewhere", 2.5)

    passed = [line for line in said.splitlines() if line.startswith("PASSED")]
    for law in (
        "test_perfect_predictions_get_the_perfect_value[balanced_accuracy",
        "test_a_metric_is_documented_in_its_class[balanced_accuracy",
        "test_a_task_is_documented_in_its_class[yes_no",
        "test_a_room_imports_only_rooms_before_it[tasks/yes_no.py",
        "test_a_method_says_what_it_is_when_to_prefer_it_and_its_formula[metrics/balanced_accuracy.py",
        "taskloom.metrics.balanced_accuracy.BalancedAccuracy",
    ):
        assert [line for line in passed if law in line], law
