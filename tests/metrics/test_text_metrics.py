"""Metrics of written texts against the packages that the field counts with, and F1 of extracted values by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from taskloom.bootstrap import draws, interval
from taskloom.metrics import METRICS, Metric
from taskloom.metrics.bleu import Bleu
from taskloom.metrics.chrf import Chrf
from taskloom.metrics.exact_match import ExactMatch
from taskloom.metrics.rouge_1 import Rouge1
from taskloom.metrics.rouge_2 import Rouge2
from taskloom.metrics.rouge_l import RougeL
from taskloom.metrics.slot_f1 import SlotF1

pytestmark = pytest.mark.filterwarnings("error")

TEXT = "the a cat sat on mat, it's down. New York 1912 (old) well-known price $3.50 and then left!"
WORDS = TEXT.split()
ROUGE = [(RougeL, "rougeL"), (Rouge1, "rouge1"), (Rouge2, "rouge2")]
SACREBLEU = [(Bleu, BLEU), (Chrf, CHRF)]


def texts(seed: int, n: int, references: int) -> tuple[list[str], list[list[str]]]:
    """Make predictions of a few words, and for each some references that share most of them."""
    generator = random.Random(seed)
    right = [[generator.choice(WORDS) for _ in range(generator.randint(4, 12))] for _ in range(n)]

    def near(words: list[str]) -> str:
        changed = [word if generator.random() < 0.7 else generator.choice(WORDS) for word in words]
        return " ".join(changed[: generator.randint(2, len(changed))])

    return [near(words) for words in right], [[near(words) for _ in range(references)] for words in right]


def written_out(values: list[str], counts: np.ndarray) -> list[str]:
    return [value for value, times in zip(values, counts, strict=True) for _ in range(int(times))]


@pytest.mark.parametrize(("metric", "kind"), ROUGE)
def test_rouge_is_the_mean_of_the_packages_best_f_measures(metric: type[Metric], kind: str) -> None:
    predictions, references = texts(0, 40, 3)
    scorer = RougeScorer([kind])
    wanted = [
        scorer.score_multi(right, said)[kind].fmeasure for said, right in zip(predictions, references, strict=True)
    ]
    assert 0.2 < np.mean(wanted) < 0.9
    assert metric().score(predictions, references) == pytest.approx(float(np.mean(wanted)), abs=1e-12)


@pytest.mark.parametrize("metric", [RougeL, Rouge1])
def test_rouge_tells_words_of_other_scripts_apart(metric: type[Metric]) -> None:
    assert metric().score(["Мама мыла раму"], [["Мама мыла пол"]]) == pytest.approx(2 / 3)
    assert metric().score(["Мама"], [["рама"]]) == 0
    assert metric().score(["Zürich"], [["zurich"]]) == 0


@pytest.mark.parametrize(("metric", "kind"), ROUGE)
def test_rouge_of_texts_too_short_for_it_is_whether_they_are_the_same(metric: type[Metric], kind: str) -> None:
    short = ["", "!"] if kind != "rouge2" else ["", "!", "yes"]
    for text in short:
        assert metric().score([text], [[text]]) == 1
        assert metric().score([text], [["no such"]]) == 0
    assert metric().score(["", "no"], [[], []]) == 0.5
    assert metric().score(["?"], [["!"]]) == 0


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize(("metric", "package"), SACREBLEU)
def test_a_corpus_score_is_sacrebleus(metric: type[Metric], package: type, references: int) -> None:
    predictions, right = texts(1, 50, references)
    wanted = package().corpus_score(predictions, [list(stream) for stream in zip(*right, strict=True)]).score / 100
    assert 0.1 < wanted < 0.9
    assert metric().score(predictions, right) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("metric", "package"), SACREBLEU)
def test_examples_may_have_references_in_different_number(metric: type[Metric], package: type) -> None:
    predictions, right = texts(2, 30, 3)
    uneven = [answers[: 1 + place % 3] for place, answers in enumerate(right)]
    streams = [[answers[i] if i < len(answers) else None for answers in uneven] for i in range(3)]
    wanted = package().corpus_score(predictions, streams).score / 100
    assert metric().score(predictions, uneven) == pytest.approx(wanted, abs=1e-12)
    assert wanted != pytest.approx(metric().score(predictions, right), abs=1e-4)


@pytest.mark.parametrize(("metric", "package"), SACREBLEU)
def test_each_bootstrap_sample_gets_sacrebleus_score_of_the_sample_written_out(
    metric: type[Metric], package: type
) -> None:
    predictions, right = texts(3, 12, 1)
    single = [answers[0] for answers in right]
    found = interval(metric(), predictions, right, resamples=30, seed=5)
    counts = np.concatenate(list(draws(12, 30, 5)))
    wanted = [
        package().corpus_score(written_out(predictions, count), [written_out(single, count)]).score / 100
        for count in counts
    ]
    assert len(set(wanted)) > 20
    np.testing.assert_allclose(found.samples, wanted, rtol=0, atol=1e-12)


def test_chrf_and_bleu_differ_from_the_mean_of_sentence_scores() -> None:
    predictions, right = texts(4, 20, 1)
    for metric in (Bleu(), Chrf()):
        sentences = [metric.score([said], [answers]) for said, answers in zip(predictions, right, strict=True)]
        assert metric.score(predictions, right) != pytest.approx(float(np.mean(sentences)), abs=1e-3)


def test_bleu_is_zero_where_no_prediction_has_four_words() -> None:
    assert Bleu().score(["the cat sat"], [["the cat sat"]]) == 0
    assert Bleu().score(["the cat sat down"], [["the cat sat down"]]) == pytest.approx(1)
    assert Chrf().score(["the cat sat"], [["the cat sat"]]) == pytest.approx(1)


@pytest.mark.parametrize("metric", [Bleu(), Chrf(), RougeL(), ExactMatch()])
def test_saying_nothing_scores_zero_where_something_is_right(metric: Metric) -> None:
    assert metric.score(["", ""], [["the cat sat down"], ["it left"]]) == 0


@pytest.mark.parametrize("metric", [Bleu(), Chrf(), RougeL(), Rouge1(), Rouge2(), SlotF1()])
def test_a_prediction_without_its_references_is_refused(metric: Metric) -> None:
    empty = [] if isinstance(metric, SlotF1) else "yes"
    with pytest.raises(ValueError, match=r"predictions for|longer"):
        metric.score([empty], [[], []])


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge_1", "rouge_2", "rouge_l", "exact_match"])
def test_each_of_several_references_is_acceptable(name: str) -> None:
    metric = METRICS.load(name)()
    said = "it left for New York today"
    assert metric.score([said], [["something else altogether was said", said]]) == pytest.approx(1)
    assert metric.score([said], [["something else altogether was said"]]) < 0.5


def test_slot_f1_counts_pairs_of_label_and_value() -> None:
    city, day = {"label": "city", "value": "New York"}, {"label": "day", "value": "today"}
    wrong = {"label": "city", "value": "York"}
    metric = SlotF1()
    # Two pairs are said, three are right, one is both.
    assert metric.score([[city], [wrong]], [[city, day], [city]]) == pytest.approx(2 / 5)
    # A pair said twice is right as often as it stands in the reference.
    assert metric.score([[city, city]], [[city]]) == pytest.approx(2 / 3)
    # The same value under another label is wrong; case and blanks do not matter.
    assert metric.score([[{"label": "day", "value": "New York"}]], [[city]]) == 0
    assert metric.score([[{"label": "city", "value": " new  york"}]], [[city]]) == 1
    assert metric.score([[]], [[]]) == 0


def test_slot_f1_of_bootstrap_samples_equals_the_samples_written_out() -> None:
    generator = random.Random(6)
    pool = [{"label": label, "value": value} for label in "ab" for value in ("x", "y z", "w")]
    right = [generator.sample(pool, generator.randint(0, 3)) for _ in range(9)]
    said = [answers if generator.random() < 0.5 else generator.sample(pool, 2) for answers in right]
    found = interval(SlotF1(), said, right, resamples=40, seed=1)
    wanted = []
    for count in np.concatenate(list(draws(9, 40, 1))):
        drawn = np.repeat(np.arange(9), count.astype(int))
        wanted.append(SlotF1().score([said[i] for i in drawn], [right[i] for i in drawn]))
    np.testing.assert_allclose(found.samples, wanted, rtol=0, atol=1e-12)
