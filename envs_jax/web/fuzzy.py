"""Fuzzy matching of short texts: whether fuzzywuzzy's `token_set_ratio` of two strings is above 85.

The ratio (fuzzywuzzy's definition, as rapidfuzz computes it): both strings become sets of words; S is what they share,
A and B are the sorted rests, joined by spaces. The ratio is the largest normalised indel similarity,
`100 − 100 · distance / total length`, among the pairs (S + A, S + B), (S, S + A) and (S, S + B), rounded to an integer.
`round(ratio) > 85` is `200 · distance ≤ 29 · total length`, so all of it is integer arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

_LATIN_1_UPPER_HALF = dict.fromkeys(range(128, 256))
_NOT_ALPHANUMERIC = re.compile(r"[\W_]")
_CHUNK_ROWS = 256


def normalized(text: str) -> str:
    """What fuzzywuzzy compares: no characters 128–255, all but letters and digits as spaces, lower case, stripped."""
    text = text.translate(_LATIN_1_UPPER_HALF).replace("\u0130", "i")
    return _NOT_ALPHANUMERIC.sub(" ", text).lower().strip()


def fuzzy_matches(left: Sequence[str], right: Sequence[str]) -> np.ndarray:
    """Whether each of N texts matches each of M texts: `token_set_ratio(left[i], right[j]) > 85`, bool[N, M]."""
    left_words, right_words = ([frozenset(normalized(text).split()) for text in texts] for texts in (left, right))
    rows, columns = _distinct(left_words), _distinct(right_words)
    distinct = _match_word_sets(list(rows), list(columns))
    row_index = np.array([rows[words] for words in left_words], np.intp)
    column_index = np.array([columns[words] for words in right_words], np.intp)
    return distinct[row_index][:, column_index]


def indel_distance(a: str, b: str) -> int:
    """The fewest insertions and deletions that turn `a` into `b` (bit-parallel LCS, Hyyrö 2004)."""
    positions: dict[str, int] = {}
    for i, character in enumerate(a):
        positions[character] = positions.get(character, 0) | 1 << i
    full = (1 << len(a)) - 1
    rest = full
    for character in b:
        hits = rest & positions.get(character, 0)
        rest = (rest + hits | rest - hits) & full
    common = len(a) - rest.bit_count()
    return len(a) + len(b) - 2 * common


def _distinct(items: Sequence[frozenset[str]]) -> dict[frozenset[str], int]:
    return {item: i for i, item in enumerate(dict.fromkeys(items))}


def _match_word_sets(left: list[frozenset[str]], right: list[frozenset[str]]) -> np.ndarray:
    """`fuzzy_matches` of distinct word sets: settled by lengths where possible, by `indel_distance` elsewhere."""
    matches = np.zeros((len(left), len(right)), bool)
    if not left or not right:
        return matches
    vocabulary = {word: i for i, word in enumerate(sorted(set().union(*left, *right)))}
    for start in range(0, len(left), _CHUNK_ROWS):
        rows = left[start : start + _CHUNK_ROWS]
        settled, doubtful = _compare_lengths(rows, right, vocabulary)
        for i, j in doubtful:
            settled[i, j] = _rests_are_close(rows[i], right[j])
        matches[start : start + _CHUNK_ROWS] = settled
    return matches


def _compare_lengths(
    left: list[frozenset[str]], right: list[frozenset[str]], vocabulary: dict[str, int]
) -> tuple[np.ndarray, Iterator[tuple[int, int]]]:
    """(matches that lengths alone prove, the pairs that need the distance of their rests)."""
    a, b = (_incidence(words, vocabulary) for words in (left, right))
    lengths = np.array([len(word) for word in vocabulary], np.float32)
    shared = (a @ b.T).astype(np.int32)
    shared_letters = ((a * lengths) @ b.T).astype(np.int32)
    common = shared_letters + np.maximum(shared - 1, 0)  # length of S
    rests = []
    for incidence, axis in ((a, 1), (b, 0)):
        words = np.expand_dims(incidence.sum(1).astype(np.int32), axis)
        letters = np.expand_dims((incidence @ lengths).astype(np.int32), axis)
        rests.append(letters - shared_letters + np.maximum(words - shared - 1, 0))
    some = shared > 0
    subset = some & ((rests[0] == 0) | (rests[1] == 0))
    prefix = [some & (200 * (rest + 1) <= 29 * (2 * common + 1 + rest)) for rest in rests]
    settled = subset | prefix[0] | prefix[1]
    empty = np.array([not words for words in left])[:, None] | np.array([not words for words in right])[None]
    settled &= ~empty
    total = 2 * (common + some) + rests[0] + rests[1]
    bound = np.maximum(_letter_difference(left, right), np.abs(rests[0] - rests[1]))
    doubtful = np.argwhere(~settled & ~empty & (200 * bound <= 29 * total))
    return settled, ((i, j) for i, j in doubtful.tolist())


def _rests_are_close(a: frozenset[str], b: frozenset[str]) -> bool:
    rests = " ".join(sorted(a - b)), " ".join(sorted(b - a))
    shared = a & b
    common = sum(map(len, shared)) + len(shared)  # with one space after each word
    return 200 * indel_distance(*rests) <= 29 * (2 * common + len(rests[0]) + len(rests[1]))


def _incidence(items: list[frozenset[str]], vocabulary: dict[str, int]) -> np.ndarray:
    """float32[N, V]: 1 where an item holds a word (floats, as BLAS multiplies them; all values are small integers)."""
    incidence = np.zeros((len(items), len(vocabulary)), np.float32)
    for i, words in enumerate(items):
        incidence[i, [vocabulary[word] for word in words]] = 1
    return incidence


def _letter_difference(left: list[frozenset[str]], right: list[frozenset[str]]) -> np.ndarray:
    """int32[N, M]: a lower bound of the indel distance of the rests.

    It counts by how many each letter differs; shared words cancel. Characters fall into 64 classes, still a bound.
    """
    counts = []
    for items in (left, right):
        table = np.zeros((len(items), 64), np.int16)
        for i, words in enumerate(items):
            for character in "".join(words):
                table[i, ord(character) % 64] += 1
        counts.append(table)
    difference = np.zeros((len(left), len(right)), np.int32)
    for letter in np.flatnonzero(counts[0].any(0) | counts[1].any(0)):
        difference += np.abs(counts[0][:, letter, None] - counts[1][None, :, letter])
    return difference
