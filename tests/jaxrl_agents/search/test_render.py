"""Trees and paths as text and as pictures with the environment's frames."""

import collections
import dataclasses
import itertools
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs_jax
from jaxrl_agents import search
from jaxrl_agents.search import rng
from jaxrl_agents.search.render import drawing, layout
from jaxrl_agents.search.render.nodes import ROOT, Node
from tests.jaxrl_agents.search import tables
from tests.jaxrl_agents.search.roots import started

pytestmark = pytest.mark.usefixtures("quick_compilation")

Image = pytest.importorskip("PIL.Image")

KEY = jax.random.key(7)
COLOURS = {
    "best": (232, 89, 12), "success": (43, 138, 62), "ended": (201, 42, 42), "time limit": (73, 80, 87),
    None: (154, 165, 177), "pale": (211, 218, 225),
}  # fmt: skip
BEAM = {"num_turns": 5, "beam_width": 3, "candidates": "enumerate", "deduplicate": True}
BACK = {"num_turns": 12, "num_rollouts": 2, "entropy_threshold": 0.5, "steps_back": 2}
TURNS = {"num_turns": 3, "num_rollouts": 2, "max_turn_actions": 2}


SIZE = 32  # the height of frames: small pictures are searched through sooner


@jax.jit
def after(env, state, action, word, task, number=0):
    """The state after the `number`-th action of a turn with this word."""
    return env.transition(state, jnp.int32(action), rng.action_words(jnp.uint32(word), number), task).state


@jax.jit
def flags(env, state, task):
    return env.success(state, task), *env.status(state, task)


def policy(params, observation):
    """Unsure in some places and sure in others."""
    del params
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(64, 4)) * 2, jnp.float32)
    return logits[observation], jnp.zeros(observation.shape)


@pytest.fixture(scope="module")
def sokoban():
    """A stage: environment, model, root and tasks, the last of which are cut short."""
    env, tasks = envs_jax.make("Sokoban-RAGEN-v0", num_levels=4)
    limit = np.array([100, 100, 100, 3], np.uint16)
    tasks = dataclasses.replace(tasks.instances, time_limit=jnp.asarray(limit))
    model = search.from_env(env)
    return env, started(env, model, tasks), model, tasks


@pytest.fixture(scope="module")
def lake():
    env, tasks = envs_jax.make("FrozenLake-v0")
    tasks = tasks[np.zeros(3, int)].instances
    model = search.from_env(env, policy)
    return env, started(env, model, tasks), model, tasks


# Outputs of NumPy's arrays, for JAX compiles a program for each number by which its arrays are indexed.


@pytest.fixture(scope="module")
def beam(sokoban):
    _, root, model, tasks = sokoban
    return jax.device_get(search.beam_search(None, KEY, root, model, tasks=tasks, **BEAM))


@pytest.fixture(scope="module")
def simulated(sokoban):
    _, root, model, tasks = sokoban
    return jax.device_get(search.mcts(None, KEY, root, model, tasks=tasks, num_simulations=12))


@pytest.fixture(scope="module")
def stepped_back(lake):
    _, root, model, tasks = lake
    return jax.device_get(search.entropy_backtrack(None, KEY, root, model, tasks=tasks, **BACK))


def drawn(mode, stage, output, **options):
    env, root, model, tasks = stage
    return mode(env, output, root, model, tasks, **options)


tree_image = partial(drawn, search.tree_image, frame_height=SIZE)
path_image = partial(drawn, search.path_image)


def row(tree, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def replayed(stage, output, index, num_words):
    """The task, and the state of every node by its place (row, slot) in the arrays of the tree.

    Read from these arrays and played an action at a time.
    """
    env, root, _, tasks = stage
    task, key = row(tasks, index), jax.random.split(KEY, len(output.value))[index]
    tree = jax.device_get(output.search_tree)
    back = isinstance(tree, search.BacktrackTree)
    states = {(-1, w): row(root.embedding, index) for w in range(tree.width)}
    made = {}
    for t in range(len(tree.parents)):
        words = jax.device_get(jax.random.bits(jax.random.fold_in(key, t), (num_words,), jnp.uint32))
        for w in range(tree.width):
            parent, length = int(tree.parents[t, index, w]), int(tree.lengths[t, index, w])
            state = states.get((parent, w) if back else (t - 1, max(parent, 0)))
            word = words[w if back else int(tree.candidates[t, index, w])]
            for number, action in enumerate(np.atleast_1d(tree.action_from_parent[t, index, w])[:length]):
                state = after(env, state, action, word, task, number)
            states[t, w] = state  # where nothing was done, a copy of the parent
            if length:
                made[t, w] = state
    return task, made


def found(picture, frame):
    """The upper left corners (y, x) at which a picture holds exactly this frame."""
    codes, wanted = (pixels.astype(np.int32) @ [65536, 256, 1] for pixels in (picture, frame))
    colours, number = np.unique(codes, return_counts=True)
    often = dict(zip(colours.tolist(), number.tolist(), strict=True))
    height, width = wanted.shape
    rarest = np.argmin([often.get(colour, 0) for colour in wanted.ravel().tolist()])
    dy, dx = divmod(int(rarest), width)
    at = np.argwhere(codes == wanted[dy, dx]) - (dy, dx)
    return [
        (y, x)
        for y, x in at.tolist()
        if min(y, x) >= 0 and np.array_equal(codes[y : y + height, x : x + width], wanted)
    ]


def frames(stage, task, states, size=SIZE):
    tiles = [Image.fromarray(stage[0].render_rgb(jax.device_get(state), task)) for state in states]
    return [
        np.asarray(tile.resize((round(tile.width * size / tile.height), size), Image.Resampling.LANCZOS))
        for tile in tiles
    ]


def corners(picture, tiles):
    """Where a picture holds the tiles, each of which it must hold as often as the list does."""
    number = collections.Counter(tile.tobytes() for tile in tiles)
    distinct = {tile.tobytes(): tile for tile in tiles}
    places = {name: found(picture, tile) for name, tile in distinct.items()}
    assert {name: len(at) for name, at in places.items()} == dict(number)
    return places


def borders(picture, tiles, width=3):
    """The colours of the borders of the tiles in a picture, counted."""
    at = {corner for places in corners(picture, tiles).values() for corner in places}
    return collections.Counter(tuple(picture[y + SIZE // 2 + 9, x - 1].tolist()) for y, x in at)


def ending(env, state, task):
    success, terminated, truncated = flags(env, state, task)
    return "success" if success else "ended" if terminated else "time limit" if truncated else None


@pytest.mark.parametrize("index", [0, 3])
def test_beams_show_every_node_and_the_best_path(sokoban, beam, index):
    env, root, model, tasks = sokoban
    picture = tree_image(sokoban, beam, index=index, rng_key=KEY)
    task, made = replayed(sokoban, beam, index, num_words=12)
    start = row(root.embedding, index)
    tiles = frames(sokoban, task, [start, *made.values()])
    kinds = [ending(env, state, task) for state in made.values()]
    expected = collections.Counter(COLOURS[kind] for kind in kinds)
    steps = tables.paths(beam)[index][0]
    path = [start]
    for action in steps:
        path.append(after(env, path[-1], action, 0, task))
    alive = [ending(env, state, task) is None for state in path]
    expected[COLOURS["best"]] += sum(alive)
    expected[COLOURS[None]] -= sum(alive[1:])
    assert borders(picture, tiles) == +expected
    assert index != 3 or {"success", "time limit", None} <= {*kinds}
    before = None
    for frame in frames(sokoban, task, path):
        y, x = min(found(picture, frame), key=lambda corner: (corner[0], corner[1] <= (before or (0, 0))[1]))
        assert before is None or (y == before[0] and x > before[1])  # from left to right in the first row
        before = y, x


def test_frames_are_scaled_down_never_up(sokoban, beam):
    env, root, _, tasks = sokoban
    frame = env.render_rgb(jax.device_get(row(root.embedding, 1)), row(tasks, 1))
    for height in (len(frame), 1000):
        assert found(tree_image(sokoban, beam, index=1, max_nodes=2, frame_height=height), frame)
    assert not found(tree_image(sokoban, beam, index=1, max_nodes=2), frame)
    assert tree_image(sokoban, beam, frame_height=None).shape[1] <= 1600


def test_few_nodes_are_those_of_the_best_paths(sokoban, beam, monkeypatch):
    titles = []
    draw = drawing.picture
    monkeypatch.setattr(
        drawing, "picture", lambda boxes, title, *more: titles.append(title) or draw(boxes, title, *more)
    )
    env, root, _, _ = sokoban
    steps = tables.paths(beam)[1][0]
    task, made = replayed(sokoban, beam, 1, num_words=12)
    path = [row(root.embedding, 1)]
    for action in steps:
        path.append(after(env, path[-1], action, 0, task))
    picture = tree_image(sokoban, beam, index=1, max_nodes=len(steps))
    assert sum(borders(picture, frames(sokoban, task, path)).values()) == len(steps) + 1
    assert f"{len(steps)} nodes · {len(made) - len(steps)} more not drawn" in titles[0]
    tree_image(sokoban, beam, index=1, max_nodes=1)
    assert f"1 node · {len(made) - 1} more not drawn" in titles[1]
    tree_image(sokoban, beam, index=1)
    assert titles[2].endswith(f"{len(made)} nodes")


def test_backtracking_shows_what_was_discarded_pale_and_the_way_back(lake, stepped_back):
    env, root, _, _ = lake
    tree = jax.device_get(stepped_back.search_tree)
    for index in range(3):
        task, made = replayed(lake, stepped_back, index, num_words=2)
        kept = set()
        for slot in range(tree.width):
            at = int(tree.final_nodes[index, slot])
            while at >= 0:
                kept.add((at, slot))
                at = int(tree.parents[at, index, slot])
        discarded = [state for place, state in made.items() if place not in kept]
        white = Image.new("RGB", (SIZE, SIZE), "white")
        tiles = frames(lake, task, [row(root.embedding, index), *(made[place] for place in kept)])
        pale = [np.asarray(Image.blend(Image.fromarray(tile), white, 0.55)) for tile in frames(lake, task, discarded)]
        picture = tree_image(lake, stepped_back, index=index, rng_key=KEY)
        corners(picture, tiles + pale)
        violet = (np.abs(picture.astype(int) - (112, 72, 232)).sum(-1) < 60).sum()
        assert (violet > 500) == bool((tree.steps_back[:, index] > 0).any())
    assert (tree.steps_back > 0).any() and discarded


def test_turns_of_several_actions(lake):
    env, root, model, tasks = lake
    output = search.best_of_n(None, KEY, root, model, tasks=tasks, **TURNS)
    task, made = replayed(lake, output, 1, num_words=2)
    tiles = frames(lake, task, [row(root.embedding, 1), *made.values()])
    corners(tree_image(lake, output, index=1, rng_key=KEY), tiles)
    best = jax.device_get(output.trajectories(1))
    words = np.asarray(jax.jit(rng.words_at, static_argnums=2)(jax.random.split(KEY, 3), best.words, 2))
    states = [row(root.embedding, 1)]
    for turn in range(TURNS["num_turns"]):
        for number in range(int(best.lengths[1, 0, turn])):
            states.append(after(env, states[-1], best.actions[1, 0, turn, number], words[1, 0, turn], task, number))
    strip = path_image(lake, output, index=1, rng_key=KEY, columns=len(states))
    whole = frames(lake, task, states, size=lake[0].render_rgb(states[0], task).shape[0])
    np.testing.assert_array_equal(strip, np.concatenate(whole, axis=1))


def test_path_in_rows(sokoban, beam):
    env, root, model, tasks = sokoban
    steps = tables.paths(beam)[1][0]
    task, state = row(tasks, 1), row(root.embedding, 1)
    states = [state := after(env, state, a, 0, task) for a in steps]
    picture = path_image(sokoban, beam, index=1, columns=2)
    tiles = [env.render_rgb(jax.device_get(state), task) for state in (row(root.embedding, 1), *states)]
    height, width, _ = tiles[0].shape
    assert picture.shape == (-(-len(tiles) // 2) * height, 2 * width, 3)
    for number, tile in enumerate(tiles):
        y, x = number // 2 * height, number % 2 * width
        np.testing.assert_array_equal(picture[y : y + height, x : x + width], tile)
    assert len(tiles) % 2 == 0 or (picture[-height:, width:] == 255).all()


def test_outcomes_that_are_not_those_of_the_search_are_told(lake, sokoban, stepped_back, simulated, monkeypatch):
    titles = []
    monkeypatch.setattr(drawing, "picture", lambda boxes, title, height: titles.append(title))
    tree_image(lake, stepped_back, rng_key=KEY)
    tree_image(sokoban, simulated)
    assert not any("anew" in title for title in titles)
    tree_image(lake, stepped_back)
    assert titles[-1].endswith("outcomes drawn anew")
    fresh = path_image(lake, stepped_back)
    np.testing.assert_array_equal(fresh, path_image(lake, stepped_back))


def test_what_is_not_of_the_search_is_refused(sokoban, beam, lake, stepped_back):
    with pytest.raises(ValueError, match="rng_key is not that of the search: root 1 was searched with another key"):
        tree_image(lake, stepped_back, index=1, rng_key=jax.random.key(99))
    env, root, model, tasks = sokoban
    others = jax.tree.map(lambda leaf: np.roll(leaf, 1, axis=0), (root, tasks))
    with pytest.raises(ValueError, match="rng_key, root, model and tasks must be those of the search"):
        search.tree_image(env, beam, others[0], model, others[1], rng_key=KEY)
    few = jax.tree.map(lambda leaf: np.asarray(leaf)[:2], (root, tasks))
    with pytest.raises(ValueError, match="output is of 4 roots, root holds 2"):
        search.path_image(env, beam, few[0], model, few[1])
    with pytest.raises(TypeError, match="model must be one that search.from_env made; got Model"):
        search.path_image(env, beam, root, tables.MODEL, tasks)


def test_text_shows_every_node_and_the_best_path(sokoban, beam, simulated, lake, stepped_back):
    names = sokoban[0].action_names
    for output, number in (
        (beam, lambda tree: int((tree.lengths[:, 1] > 0).sum())),
        (stepped_back, lambda tree: int((tree.lengths[:, 1] > 0).sum())),
        (simulated, None),
    ):
        lines = search.tree_text(output, 1, names=names).splitlines()
        if number is not None:
            assert len(lines) == 1 + number(jax.device_get(output.search_tree))
        starred = [next(word for word in line.split() if word in names) for line in lines if line.endswith("*")]
        assert starred == [names[action] for action in tables.paths(output)[1][0]]
    assert lines[1].count("visits") == 1 and any("1 visit" in line and "visits" not in line for line in lines)
    every = search.tree_text(beam, 1).splitlines()
    short = search.tree_text(beam, 1, max_nodes=2).splitlines()
    assert short == [*every[:3], f"… {len(every) - 3} more nodes"]
    assert search.tree_text(beam, 1, max_nodes=len(every) - 2).splitlines()[-1] == "… 1 more node"


def test_nothing_below_an_ended_node_of_mcts_is_shown(sokoban, simulated):
    tree = jax.device_get(simulated.search_tree)
    for index in range(4):
        parents, actions = tree.parents[index], tree.action_from_parent[index]
        ends = {i for i in range(1, len(parents)) if tree.children_discounts[index, parents[i], actions[i]] == 0}
        shown = [i for i in range(1, len(parents)) if parents[i] >= 0]
        below = set()
        for i in shown:
            if parents[i] in ends | below:
                below.add(i)
        assert len(search.tree_text(simulated, index).splitlines()) == 1 + len(shown) - len(below)


def test_a_root_that_has_ended_is_alone(sokoban):
    env, root, model, tasks = sokoban
    over = dataclasses.replace(tasks, time_limit=jnp.zeros(4, jnp.uint16))
    stage = env, started(env, model, over), model, over
    output = search.beam_search(None, KEY, stage[1], model, tasks=over, **BEAM)
    assert len(search.tree_text(output).splitlines()) == 1
    (tile,) = frames(sokoban, row(over, 0), [row(root.embedding, 0)])
    assert borders(tree_image(stage, output, rng_key=KEY), [tile]) == {COLOURS["time limit"]: 1}
    assert path_image(stage, output).shape == env.render_rgb(jax.device_get(row(root.embedding, 0)), row(over, 0)).shape


@pytest.mark.parametrize("draw", ["text", "tree", "path"])
@pytest.mark.parametrize(
    "wrong, error, message",
    [
        ({"index": 99}, ValueError, "=99 is not one of the roots 0 … 3"),
        ({"index": 4}, ValueError, "=4 is not one of the roots 0 … 3"),
        ({"index": -1}, ValueError, "=-1 is not one of the roots 0 … 3"),
        ({"index": 1.5}, TypeError, "=1.5 is not an integer"),
        ({"index": True}, TypeError, "=True is not an integer"),
        ({"output": "beam"}, TypeError, "output must be a SearchOutput, what a search returns; got str"),
        ({"output": None}, TypeError, "output must be a SearchOutput, what a search returns; got NoneType"),
        ({"most": 0}, ValueError, "=0 must be at least 1"),
        ({"most": 2.5}, TypeError, "=2.5 is not an integer"),
    ],
)
def test_wrong_arguments_are_refused(sokoban, beam, draw, wrong, error, message):
    output, index, most = (wrong.get(name, default) for name, default in (("output", beam), ("index", 0), ("most", 3)))
    call = {
        "text": lambda: search.tree_text(output, index, max_nodes=most),
        "tree": lambda: tree_image(sokoban, output, index=index, max_nodes=most),
        "path": lambda: path_image(sokoban, output, index=index, columns=most),
    }
    with pytest.raises(error, match=message):
        call[draw]()


def test_traced_outputs_are_refused(sokoban, beam):
    with pytest.raises(TypeError, match="output is traced; a picture needs its values"):
        jax.jit(lambda output: len(search.tree_text(output)))(beam)
    with pytest.raises(TypeError, match="output is traced"):
        jax.jit(lambda output: tree_image(sokoban, output))(beam)


def test_names_must_be_those_of_all_actions(beam):
    with pytest.raises(ValueError, match=r"names has 1 entries; the tree holds action [1-3]"):
        search.tree_text(beam, names=("up",))
    with pytest.raises(TypeError, match="names must be a sequence of names"):
        search.tree_text(beam, names="udlr")


def test_without_pillow_the_error_says_what_to_install(sokoban, beam, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.ImageFont", None)
    with pytest.raises(ImportError, match=r"envs-jax\[render\]"):
        tree_image(sokoban, beam)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=40))
def test_edges_neither_cross_nor_share_a_line(choices):
    nodes = {n: Node(choice % (n + 1) - 1, (0,), 0.0, 0.0, (-1, -1)) for n, choice in enumerate(choices)}
    last = len(nodes) - 1
    path = [last] if nodes else []
    while path and nodes[path[0]].parent != ROOT:
        path.insert(0, nodes[path[0]].parent)
    places = layout.places(nodes, [path])
    assert len(set(places.values())) == len(places) == len(nodes) + 1
    assert all(places[number] == (depth, 0) for depth, number in enumerate([ROOT, *path]))
    spans = collections.defaultdict(list)  # of the rows that the edges below a node pass, for each column
    for parent in places:
        rows = sorted(places[n][1] for n, node in nodes.items() if node.parent == parent)
        assert all(places[n][0] == places[parent][0] + 1 for n, node in nodes.items() if node.parent == parent)
        if rows:
            assert rows[0] == places[parent][1]
            spans[places[parent][0]].append((rows[0], rows[-1]))
    for column in spans.values():
        ordered = sorted(column)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(ordered))


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 40))
def test_parents_of_what_is_drawn_are_drawn(choices, most):
    nodes = {n: Node(choice % (n + 1) - 1, (0,), 0.0, 0.0, (-1, -1)) for n, choice in enumerate(choices)}
    path = [len(nodes) - 1] if nodes else []
    while path and nodes[path[0]].parent != ROOT:
        path.insert(0, nodes[path[0]].parent)
    chosen = layout.most_important(nodes, [path], most)
    assert len(chosen) == min(most, len(nodes)) and {*path[:most]} <= {*chosen}
    assert all(node.parent == ROOT or node.parent in chosen for node in chosen.values())
    assert [*chosen] == sorted(chosen)
