"""A mitigation of the user's own: named by module and class, with options, and part of what a run is made of."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fair_rows import fair_values, write_corpus
from taskloom.config import load_config
from taskloom.fingerprint import fingerprint_of
from taskloom.preparation import prepare

SOURCE = '''
import numpy as np
from taskloom.mitigation import Mitigation

class Twice(Mitigation):
    """Count one group's rows more."""

    def __init__(self, *, favoured: str, times: float = 2.0) -> None:
        self.favoured, self.times = favoured, times

    def begin(self, groups):
        self.weights = np.array([self.times if group == self.favoured else 1.0 for group in groups.group])

    def factors(self, rows):
        return self.weights[list(rows)]
'''


def test_a_class_of_the_users_own_is_a_mitigation(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_fairness.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_fairness", raising=False)
    data = write_corpus(tmp_path / "data")
    section = {"method": "own_fairness:Twice", "group": "who", "favoured": "she"}
    config = load_config(fair_values(tiny_encoder, data, section))
    assert config.tasks["place"].fairness == {**section, "times": 2.0}
    prepared = prepare(config)
    factors = prepared.mitigations["place"].factors(range(48))
    assert factors is not None
    words = [row["text"].split()[0] for row in prepared.corpora["place"].splits["train"]]
    assert factors.tolist() == np.where(np.array(words) == "she", 2.0, 1.0).tolist()
    assert "tasks.place.fairness.method" in fingerprint_of(prepared)["code"]
