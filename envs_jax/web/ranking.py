"""The search engine: BM25 over the products' texts, computed once when a catalogue is loaded.

Source: Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), in the form of Lucene
(idf = ln(1 + (N − df + ½) / (df + ½)), exact document lengths) with the parameters of WebShop's engine, k1 = 0.9 and
b = 0.4. WebShop's Lucene reduces words to Porter stems; here plurals are reduced by Harman's S rules ("How effective is
suffixing?", 1991).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESULTS_PER_QUERY = 50
K1, B = 0.9, 0.4

_TERM = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"['’]s\b")
_LUCENE_STOP_WORDS = """
    a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to
    was will with
"""
_STOP_WORDS = frozenset(_LUCENE_STOP_WORDS.split())


class Ranking(NamedTuple):
    """The best documents of Q queries."""

    documents: np.ndarray  # int32[Q, RESULTS_PER_QUERY]: document indices, best first; −1 beyond the end
    counts: np.ndarray  # int32[Q]: how many there are


def terms(text: str) -> list[str]:
    """The index terms of a text: lower-case runs of letters and digits, no stop words, plurals reduced."""
    words = _TERM.findall(_POSSESSIVE.sub("", text.lower()))
    return [_singular(word) for word in words if word not in _STOP_WORDS]


def rank(documents: Sequence[str], queries: Sequence[str]) -> Ranking:
    """The documents that hold any term of a query, the 50 with the highest score first; ties by document index.

    A score is the sum over the query's terms, in order and with repetitions, in float64, rounded to float32 as
    Lucene's are.
    """
    postings = _postings(documents)
    result = Ranking(np.full((len(queries), RESULTS_PER_QUERY), -1, np.int32), np.zeros(len(queries), np.int32))
    for i, query in enumerate(queries):
        scores = np.zeros(len(documents))
        for term in terms(query):
            if term in postings:
                holders, weights = postings[term]
                scores[holders] += weights
        best = _largest(scores.astype(np.float32))
        result.documents[i, : len(best)] = best
        result.counts[i] = len(best)
    return result


def _largest(scores: np.ndarray) -> np.ndarray:
    """The indices of the largest positive scores, in falling order, ties by index."""
    if len(scores) > RESULTS_PER_QUERY:
        threshold = np.partition(scores, -RESULTS_PER_QUERY)[-RESULTS_PER_QUERY]
        found = np.flatnonzero((scores >= threshold) & (scores > 0))
    else:
        found = np.flatnonzero(scores > 0)
    return found[np.argsort(-scores[found], kind="stable")][:RESULTS_PER_QUERY]


def _postings(documents: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each term, the documents that hold it (rising) and its BM25 weight in each."""
    counts = [Counter(terms(document)) for document in documents]
    lengths = np.array([count.total() for count in counts], np.float64)
    norms = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
    entries: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for document, count in enumerate(counts):
        for term, frequency in count.items():
            entries[term].append((document, frequency))
    postings = {}
    for term, found in entries.items():
        holders, frequencies = np.array(found).T
        idf = np.log(1 + (len(documents) - len(found) + 0.5) / (len(found) + 0.5))
        postings[term] = holders, idf * frequencies / (frequencies + norms[holders])
    return postings


def _singular(word: str) -> str:
    """Harman's S rules: -ies to -y, -es to -e, -s to nothing, each with its exceptions."""
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word
