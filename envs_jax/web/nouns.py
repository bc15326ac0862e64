"""The nouns of a product title, by which the reward compares the kinds of two products.

WebShop takes the words that spaCy's `en_core_web_sm` tags NOUN or PROPN (it writes the latter tag also as "PNOUN").
`spacy_nouns` does that. `word_list_nouns`, the default, needs no model: nearly every word of a product title is a noun
or a name, so it keeps every word but numbers, measures and those on a list of words that are something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable

NounFn = Callable[[str], list[str]]  # title to its nouns: lower case, in order, repetitions kept

_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"['’]s\b", re.IGNORECASE)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTION_WORDS = _words(
    """
    a about above across after all along also among an and any are around as at be been before behind below best
    between both but by can do does down each either every everyone few for from get had has have he her here his how
    i if in into is it its just may me more most much my near no nor not of off on once one only onto or other our out
    over own per plus same she so some such than that the their them then there these they this those three through to
    too toward two under until up upon us use used using very via was we were what when where which while who whose
    will with within without would x you your
    """
)
_ADJECTIVES = _words(
    """
    adjustable adult all anti antique authentic automatic available baggy beautiful big black blue bluetooth bold
    breathable bright brown casual certified cheap classic clean clear colorful comfortable comfy compact compatible
    complete cool cordless cozy creamy crisp cute daily dark decorative deep delicate delicious detachable digital
    disposable double dry dual durable duty easy eco elastic electric elegant enabled essential everyday extendable
    external extra fashionable fast fine flat flexible floral foldable folding formal free fresh friendly full funny
    gentle genuine gold golden good gray great green grey handmade hard healthy heavy high hot huge hydrating indoor
    instant internal kosher large lasting light lightweight little long loose lovely low lower luxury magnetic matte
    mini modern moisturizing mounted multi multicolor multifunctional narrow natural new nice non nourishing official
    old optical orange organic original outdoor perfect personalized pink plain plastic portable powerful practical
    premium printed professional proof protective pure purple quick quiet raw rechargeable red refillable regular
    relaxed removable replaceable resistant retro reusable rich round royal rustic safe seamless sensitive sexy sharp
    sheer shiny short silver simple single sized skinny sleek sleeveless slim small smart smooth soft solid special
    square stackable stainless standard steady straight stretchy strong stylish super sweet swivel thick thin tiny
    tough traditional transparent triple ultra unique universal unscented unsweetened upholstered upper usable vegan
    versatile vintage warm washable waterproof wearable white whole wide wired wireless wooden yellow young
    """
)
_VERBS = _words(
    """
    add adds based bring brings built designed enjoy featuring fit fits fitted give gives help helps hold holds
    improve improves include included includes including inspired keep keeps let lets made make makes protect protects
    provide provides reduce reduces remove removes repair repairs restore restores support supports supported wear
    """
)
_MEASURES = _words(
    """
    cm count ct dia feet fl foot ft g gal gallon gb hz in inch inches kg l lb lbs m mah mg ml mm ounce ounces oz pcs
    pc piece pieces pound pounds qt quart tb tbsp v w yard yards
    """
)
_OTHER = _FUNCTION_WORDS | _ADJECTIVES | _VERBS | _MEASURES


def word_list_nouns(title: str) -> list[str]:
    """The words of `title` that hold no digit, are longer than one letter and are on none of the lists above."""
    words = _WORD.findall(_POSSESSIVE.sub("", title).lower())
    return [word for word in words if len(word) > 1 and word not in _OTHER and not any(map(str.isdigit, word))]


def spacy_nouns(model: str = "en_core_web_sm") -> NounFn:
    """A noun function that tags titles with a spaCy model, as WebShop does.

    Args:
      model: the name of an installed pipeline; WebShop's is `en_core_web_sm`.

    Raises:
      ImportError: spaCy or the model is not installed; says how to install it.
    """
    try:
        import spacy
    except ImportError as error:
        raise ImportError('spacy_nouns needs spaCy: pip install "envs-jax[nouns]"') from error
    try:
        tagger = spacy.load(model)
    except OSError as error:
        raise ImportError(f"spacy_nouns needs the model {model!r}: python -m spacy download {model}") from error
    return lambda title: [token.text.lower() for token in tagger(title) if token.pos_ in ("NOUN", "PROPN")]
