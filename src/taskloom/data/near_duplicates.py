"""Which texts are nearly the same, by MinHash and locality-sensitive hashing.

Two texts are near duplicates where the sets of their word triples overlap by a Jaccard index of about 0.8 or more.
The index is estimated from `HASHES` minima of hashed triples (standard error 0.036 at 0.8). Comparing all pairs would
be quadratic, so only texts that agree in one of `BANDS` bands of `ROWS` minima are compared: at an index of 0.8 a pair
is found with probability 1 - (1 - 0.8^6)^21 = 0.998, at 0.5 it costs a comparison with probability 0.28.

All hashes depend on the words alone, never on their order of arrival: the same texts give the same clusters.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

BANDS, ROWS = 21, 6
HASHES = BANDS * ROWS
LEAST_JACCARD = 0.8
LIMIT_NEIGHBOURS = 64
"""With how many others of its bucket a text is compared in one band; a larger bucket meets its rest in other bands."""
BLOCK_WORDS = 100_000  # the work of one hash then stays in the processor's cache
BLOCK_PAIRS = 20_000

# Scripts written without spaces: a character stands for a word.
_IDEOGRAPH = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")


def normalise(text: str) -> str:
    """Bring texts that read the same to one form: NFKC, no case, single spaces; digits and punctuation stay."""
    if text.isascii():
        return " ".join(text.lower().split())
    # Folding can undo a composition, so the form is taken again.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def near_duplicates(texts: Sequence[str]) -> Integers:
    """Cluster texts, each near duplicate of a cluster's text joining it.

    Args:
        texts: [text], normalised, each once and sorted.

    Returns:
        The cluster of each text: [text] int64, from 0 on.
    """
    labels = np.arange(len(texts), dtype=np.int64)
    if len(texts) < 2:
        return labels
    minima = signatures(texts)
    for band in range(BANDS):
        keys = _key(minima[:, band * ROWS : (band + 1) * ROWS])
        order = np.argsort(keys, kind="stable")
        labels = _joined(labels, *_near_pairs(keys[order], order, labels, minima))
    return labels


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Give the least hash of each text's word triples under each of the hash functions: [text, hash]."""
    words, starts = _hashed_words(texts)
    minima = np.empty((len(texts), HASHES), dtype=np.uint32)
    with np.errstate(over="ignore"):
        salts = _mixed(np.arange(1, HASHES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        first = 0
        while first < len(texts):
            last = max(first + 1, int(np.searchsorted(starts, starts[first] + BLOCK_WORDS, side="right")) - 1)
            triples, places = _triples(words[starts[first] : starts[last]], starts[first : last + 1] - starts[first])
            for index, salt in enumerate(salts):
                scrambled = (triples ^ salt) * np.uint64(0xBF58476D1CE4E5B9)
                scrambled ^= scrambled >> np.uint64(32)
                scrambled *= np.uint64(0x94D049BB133111EB)
                minima[first:last, index] = np.minimum.reduceat(scrambled, places) >> np.uint64(32)
            first = last
    return minima


def _hashed_words(texts: Sequence[str]) -> tuple[Hashes, Integers]:
    """Give all texts' words as hashes [word], and where each text starts and the last ends [text + 1]."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    sequence: list[int] = []
    starts = [0]
    for text in texts:
        words = text.split(" ") if text.isascii() else _IDEOGRAPH.sub(r" \1 ", text).split()
        # A text of one or two words is filled up to one triple: it is near to nothing but itself.
        words += ["\x00"] * (3 - len(words))
        sequence.extend(map(numbers.__getitem__, words))
        starts.append(len(sequence))
    hashes = [
        int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()) for word in numbers
    ]
    return np.array(hashes, dtype=np.uint64)[np.array(sequence, dtype=np.int64)], np.array(starts, dtype=np.int64)


def _triples(words: Hashes, starts: Integers) -> tuple[Hashes, Integers]:
    """Hash the word triples of some texts: [triple], and where each text's start [text]."""
    spread = words[:-2] * np.uint64(0xD6E8FEB86659FD93)
    spread += words[1:-1] * np.uint64(0xA0761D6478BD642F)
    spread += words[2:] * np.uint64(0xE7037ED1A0B428DB)
    inside = np.ones(len(words), dtype=np.bool_)
    inside[starts[1:] - 1] = False  # the last two words of a text start no triple
    inside[starts[1:] - 2] = False
    return _mixed(spread[inside[:-2]]), starts[:-1] - 2 * np.arange(len(starts) - 1)


def _mixed(numbers: Hashes) -> Hashes:
    """Scramble 64-bit numbers one to one (the finaliser of SplitMix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _key(minima: NDArray[np.uint32]) -> Hashes:
    """Give one number for the minima of a band: [text, row] to [text]."""
    key = np.zeros(len(minima), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in minima.T:
            key = _mixed(key * np.uint64(0x9E3779B97F4A7C15) + column)
    return key


def _near_pairs(
    keys: Hashes, order: Integers, labels: Integers, minima: NDArray[np.uint32]
) -> tuple[Integers, Integers]:
    """Find the pairs of one band that are near duplicates and not yet of one cluster.

    Args:
        keys: the band's keys, sorted: [text].
        order: which text each key is of: [text].
        labels: the clusters so far: [text].
        minima: the signatures: [text, hash].

    Returns:
        The pairs' texts: [pair] and [pair].
    """
    lefts, rights = [], []
    for distance in range(1, min(LIMIT_NEIGHBOURS, len(keys) - 1) + 1):
        together = np.flatnonzero(keys[distance:] == keys[:-distance])
        if not len(together):
            break
        left, right = order[together], order[together + distance]
        apart = labels[left] != labels[right]
        left, right = left[apart], right[apart]
        near = _are_near(left, right, minima)
        lefts.append(left[near])
        rights.append(right[near])
    none = np.empty(0, dtype=np.int64)
    return np.concatenate([none, *lefts]), np.concatenate([none, *rights])


def _are_near(left: Integers, right: Integers, minima: NDArray[np.uint32]) -> NDArray[np.bool_]:
    edges = [*range(0, len(left), BLOCK_PAIRS), len(left)]
    blocks = [(minima[left[a:b]] == minima[right[a:b]]).mean(axis=1) >= LEAST_JACCARD for a, b in pairwise(edges)]
    return np.concatenate([np.empty(0, dtype=np.bool_), *blocks])


def _joined(labels: Integers, left: Integers, right: Integers) -> Integers:
    """Merge the clusters that pairs of texts connect."""
    if not len(left):
        return labels
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = (np.ones(len(left), dtype=np.int8), (labels[left], labels[right]))
    _, merged = connected_components(coo_array(edges, shape=(len(labels), len(labels))), directed=False)
    joined: Integers = merged[labels].astype(np.int64)
    return joined
