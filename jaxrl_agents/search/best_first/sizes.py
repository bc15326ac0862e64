"""How large the data structures of a search are made, and what memory they take."""

from __future__ import annotations

from envs_jax.sokoban.board import Layout
from jaxrl_agents.search.best_first import bounds, frontier
from jaxrl_agents.search.best_first.types import Config, Mode

_MOST_LEVELS = 4096  # that a device searches together; more would need more memory and gain nothing
_MOST_TABLES = 1 << 23  # words of their tables of sides, which take some seconds to make on open boards
_CLASS_BITS = 4  # by which the number of classes grows
_MOST_CLASSES = 1 << 17  # one for every f that a node can have
_MOST_WORDS = 4  # of boards that are searched word by word


class _StackedLayout(Layout):
    """The same board, as one array."""

    @property
    def is_stacked(self) -> bool:
        return True


def search_layout(layout: Layout) -> Layout:
    """The board in the form in which it is searched: word by word, which is faster, or `Stacked`, which compiles."""
    return layout if layout.num_words <= _MOST_WORDS else _StackedLayout(layout.height, layout.width)


def searched_together(layout: Layout) -> int:
    """The levels that a device searches together: few on large boards, since all their tables are made first."""
    return min(max(_MOST_TABLES // (layout.num_cells * layout.num_words), 1), _MOST_LEVELS)


def make_config(
    layout: Layout, mode: Mode, num_slots: int, num_levels: int, growth: int = 0, class_growth: int = 0
) -> Config:
    """The program for at most `num_levels` levels on one device.

    Args:
      layout: the size of the boards.
      mode: of the search.
      num_slots: boxes that the bound matches.
      num_levels: searched together.
      growth: how often pages, log and closed table are doubled.
      class_growth: how often the classes are multiplied by 16.
    """
    fewest = 1 if layout.is_stacked else 16
    num_levels = max(1 << (num_levels - 1).bit_length(), fewest)  # few sizes, few compilations
    lanes = min(max(2 * num_levels, 256), 2048)
    log_size = max(512 * num_levels, 1 << 16) << growth
    classes = 32 if num_slots else 512  # the nearest-target bound sees less, so that f rises more
    return Config(
        layout=layout,
        mode=mode,
        num_slots=num_slots,
        num_levels=num_levels,
        num_lanes=lanes,
        num_children=lanes,
        num_classes=min(classes << _CLASS_BITS * class_growth, _MOST_CLASSES),
        num_pages=3 * log_size // frontier.PAGE,
        log_size=log_size,
        num_sets=log_size // 4,
    )


def memory(config: Config) -> int:
    """Bytes of the large arrays on one device: of the tables, and of what they are made with or of the search."""
    words = config.layout.num_words
    pool = (words + 3) * config.num_pages * frontier.PAGE
    table = (words + 1) * config.num_sets * 4
    stacks = 3 * config.num_levels * config.num_classes
    search = 4 * (pool + table + stacks + 2 * (config.log_size + config.num_lanes))
    bytes_a_cell = 4 * (4 * bounds.distance_words(config) + 2 * words) + 1
    tables = bytes_a_cell * (config.layout.num_cells + 1) * config.num_levels
    return tables + max(search, bounds.preparing_bytes(config))


def addressed(config: Config) -> int:
    """The length of the longest array that is indexed: the pool of the stacks, or the sides of boxes at all cells."""
    cells = config.num_levels * (config.layout.num_cells + 1)
    return max(config.num_pages * frontier.PAGE, cells * config.layout.num_words)
