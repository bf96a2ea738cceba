import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.data.near_duplicates import HASHES, near_duplicates, normalise, signatures

WORDS = [f"w{number}" for number in range(3000)]


def changed(words, count, generator):
    words = list(words)
    for place in generator.sample(range(len(words)), count):
        words[place] = generator.choice(WORDS)
    return words


def index_of(one, other):
    triples = [{tuple(words[i : i + 3]) for i in range(len(words) - 2)} for words in (one, other)]
    return len(triples[0] & triples[1]) / len(triples[0] | triples[1])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("  Play\tSome \n jazz ", "play some jazz"),
        ("STRASSE", "straße"),
        ("ﬁne", "fine"),
        ("cafe\u0301", "café"),
        ("a\u00a0b\u2028c", "a b c"),
        ("１２", "12"),  # noqa: RUF001
    ],
)
def test_texts_that_read_the_same_have_one_form(text, same):
    assert normalise(text) == normalise(same)


def test_digits_and_punctuation_stay():
    assert normalise("at 7 a.m.!") == "at 7 a.m.!"


@given(st.text())
def test_the_form_of_a_form_is_itself(text):
    assert normalise(normalise(text)) == normalise(text)


def test_texts_that_overlap_by_nine_tenths_are_joined_and_by_half_are_not():
    generator = random.Random(0)
    pairs = []
    for _ in range(400):
        words = generator.choices(WORDS, k=60)
        pairs += [(words, changed(words, count, generator)) for count in (1, 8)]
    texts = sorted({" ".join(words) for pair in pairs for words in pair})
    cluster = dict(zip(texts, near_duplicates(texts), strict=True))
    joined = {True: [], False: []}
    for one, other in pairs:
        index = index_of(one, other)
        if index > 0.88 or index < 0.7:
            joined[index > 0.88].append(cluster[" ".join(one)] == cluster[" ".join(other)])
    assert len(joined[True]) > 300
    assert np.mean(joined[True]) > 0.99
    assert len(joined[False]) > 300
    assert not any(joined[False])


def test_signatures_estimate_the_overlap_without_bias():
    generator = random.Random(1)
    errors = []
    for _ in range(100):
        one = generator.choices(WORDS, k=50)
        other = changed(one, 4, generator)
        minima = signatures([" ".join(one), " ".join(other)])
        errors.append((minima[0] == minima[1]).mean() - index_of(one, other))
    standard_error = np.sqrt(0.7 * 0.3 / HASHES)
    assert abs(np.mean(errors)) < 3 * standard_error / 10
    assert np.std(errors) < 1.3 * standard_error


def test_clusters_do_not_depend_on_what_else_is_there():
    generator = random.Random(2)
    texts = sorted({" ".join(generator.choices(WORDS[:8], k=6)) for _ in range(300)})
    alone = near_duplicates(texts)
    more = sorted({*texts, *(" ".join(generator.choices(WORDS[100:], k=30)) for _ in range(300))})
    among = dict(zip(more, near_duplicates(more), strict=True))
    pairs = set(zip(alone.tolist(), (int(among[text]) for text in texts), strict=True))
    assert len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})


def test_short_texts_are_near_to_themselves_alone():
    texts = sorted(["", "yes", "no", "yes please", "please yes", "a b c", "a b d"])
    assert len(set(near_duplicates(texts).tolist())) == len(texts)


def test_scripts_without_spaces_are_compared_by_character():
    long = "我们今天下午一起去公园散步然后回家吃晚饭看电视睡觉明天早上再去上班工作到下午五点"
    texts = sorted([long, long + "半", "完全不同的一句话没有任何重复的内容在这里面"])
    assert len(set(near_duplicates(texts).tolist())) == 2


def test_a_bucket_of_many_like_texts_becomes_one_cluster():
    base = " ".join(WORDS[:60])
    texts = sorted(f"{base} {word}" for word in WORDS[:1500])
    assert len(set(near_duplicates(texts).tolist())) == 1


def test_half_characters_are_hashed_and_do_not_crash():
    assert len(near_duplicates(["a", "\ud83d"])) == 2


@pytest.mark.parametrize("texts", [[], ["a"]])
def test_few_texts_are_their_own_clusters(texts):
    assert near_duplicates(texts).tolist() == list(range(len(texts)))
