"""Laws that hold for every metric; a new file in `taskloom/metrics` joins by itself."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from kinds import REFERENCES, random_examples, right_prediction

from taskloom.bootstrap import interval
from taskloom.metrics import METRICS, Metric

# A metric that warns on a plain sample would warn a thousand times in a bootstrap.
pytestmark = pytest.mark.filterwarnings("error")

NAMES = METRICS.names()
CASES = [(name, kind) for name in NAMES for kind in sorted(METRICS.load(name).accepts & REFERENCES.keys())]
SIZES = [1, 2, 5, 30]


def metric_called(name: str) -> Metric:
    return METRICS.load(name)()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_perfect_predictions_get_the_perfect_value(name: str, kind: str) -> None:
    metric = metric_called(name)
    _, references = random_examples(kind, np.random.default_rng(0), 40)
    predictions = [right_prediction(kind, reference) for reference in references]
    value = metric.score(predictions, references)
    assert value == pytest.approx(metric.perfect, abs=1e-12)
    assert metric.normalise(np.array([value]))[0] == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_random_predictions_are_worse_than_perfect_ones(name: str, kind: str) -> None:
    metric = metric_called(name)
    value = metric.score(*random_examples(kind, np.random.default_rng(1), 40))
    assert value < metric.perfect if metric.greater_is_better else value > metric.perfect
    assert 0 <= metric.normalise(np.array([value]))[0] < 1


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_order_of_examples_does_not_matter(name: str, kind: str) -> None:
    metric, generator = metric_called(name), np.random.default_rng(2)
    predictions, references = random_examples(kind, generator, 40)
    order = generator.permutation(40)
    permuted = metric.score([predictions[i] for i in order], [references[i] for i in order])
    assert permuted == pytest.approx(metric.score(predictions, references), abs=1e-12)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_sample_that_draws_each_example_once_gets_the_score(name: str, kind: str, n: int) -> None:
    metric = metric_called(name)
    predictions, references = random_examples(kind, np.random.default_rng(3), n)
    once = metric.resample(predictions, references, np.ones((1, n)))
    assert once.shape == (1,)
    np.testing.assert_allclose(once, [metric.score(predictions, references)], rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_resampling_equals_scoring_each_sample_written_out(name: str, kind: str, n: int) -> None:
    metric, generator = metric_called(name), np.random.default_rng(4)
    predictions, references = random_examples(kind, generator, n)
    counts = generator.multinomial(n, [1 / n] * n, size=25)
    written_out = []
    for count in counts:
        drawn = [i for i, times in enumerate(count) for _ in range(times)]
        written_out.append(metric.score([predictions[i] for i in drawn], [references[i] for i in drawn]))
    values = metric.resample(predictions, references, counts.astype(float))
    np.testing.assert_allclose(values, written_out, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_interval_holds_the_score_of_random_predictions(name: str, kind: str) -> None:
    metric = metric_called(name)
    found = interval(metric, *random_examples(kind, np.random.default_rng(5), 40), resamples=200)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_accepts_known_kinds_only(name: str) -> None:
    accepts = METRICS.load(name).accepts
    assert accepts
    assert accepts <= REFERENCES.keys(), "each kind of prediction has random examples in `kinds`"


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_documented_in_its_class(name: str) -> None:
    text = inspect.getdoc(METRICS.load(name)) or ""
    assert text.split("\n")[0].endswith(".")
    assert METRICS.summary(name) == text.split("\n")[0]
    for word in ("Prefer", "Formula:", "Differs:", ">>>"):
        assert word in text
