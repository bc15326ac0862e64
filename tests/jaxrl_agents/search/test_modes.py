"""Every mode against its plain-Python version, and where modes must coincide."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_agents import search
from tests.jaxrl_agents.search import tables
from tests.reference import search as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")

NUM_ROOTS, NUM_TURNS = 24, 6
PROCESSES = tables.processes(NUM_ROOTS)
TASKS = tables.table(PROCESSES)
ROOT = tables.root(TASKS)
KEYS = tables.keys(NUM_ROOTS)
# Small ones, the same in several tests: each is compiled once.
MODES = (
    (search.best_of_n, {"num_rollouts": 3}),
    (search.beam_search, {"beam_width": 3, "num_candidates": 2}),
    (search.lookahead, {"depth": 2, "num_candidates": 2}),
    (search.entropy_backtrack, {"entropy_threshold": 0.6, "num_rollouts": 2}),
)


# Neither mask nor limit anything: where one is tested the other is given too, for one program.
NONE_INVALID, PLENTY = np.zeros(ROOT.prior_logits.shape, bool), np.full(NUM_ROOTS, 10**6)


def run(mode, model=tables.MODEL, root=ROOT, **kwargs):
    return mode(None, KEYS, root, model, tasks=TASKS, num_turns=NUM_TURNS, **kwargs)


def check_paths(output, expected, k=1):
    """The best paths, their rewards and returns, in order."""
    found, trajectories = tables.paths(output, k), jax.device_get(output.trajectories(k))
    for b, nodes in enumerate(expected):
        for i, node in enumerate(nodes[:k]):
            assert found[b][i] == node.path
            mask = np.asarray(trajectories.mask[b, i])
            np.testing.assert_array_equal(np.asarray(trajectories.rewards[b, i])[mask], node.rewards)
            assert float(trajectories.returns[b, i]) == node.total
            assert float(trajectories.scores[b, i]) == node.score
        for i in range(len(nodes), k):
            assert found[b][i] == ()
            assert float(trajectories.scores[b, i]) == -math.inf


@pytest.mark.parametrize(
    "options",
    [
        {"width": 5},
        {"width": 5, "deduplicate": True},
        {"width": 3, "num_candidates": 4},
        {"width": 4, "num_candidates": 3, "deduplicate": True, "score": "step"},
    ],
    ids=str,
)
def test_beam_is_the_plain_one(options):
    expected = [
        reference.beam(process, key, 0, NUM_TURNS, **options) for process, key in zip(PROCESSES, KEYS, strict=True)
    ]
    chosen = dict(options)
    width = chosen.pop("width")
    candidates = "sample" if "num_candidates" in options else "enumerate"
    output = run(search.beam_search, beam_width=width, candidates=candidates, **chosen)
    check_paths(output, [nodes for nodes, _ in expected], k=width)
    counts = jax.device_get(output.counts)
    for b, (_, count) in enumerate(expected):
        assert int(counts.generated[b]) == count["generated"]
        assert int(counts.generated[b] - counts.unique[b]) == count["merged"]
        assert int(counts.dead_ends[b]) == count["dead_ends"]


def test_beam_action_and_weights():
    output = run(search.beam_search, beam_width=5, candidates="enumerate", weight_temperature=0.5)
    action, action_weights = jax.device_get((output.action, output.action_weights))
    for b, process in enumerate(PROCESSES):
        frontier, _ = reference.beam(process, KEYS[b], 0, NUM_TURNS, 5)
        scores = {a: reference.Node(0).child(process, a).score for a in process.legal(0)}
        below = {}
        for node in frontier:
            below[node.path[0]] = max(below.get(node.path[0], -math.inf), node.score)
        scores |= below
        weights = np.array([math.exp(scores[a] / 0.5) if a in scores else 0.0 for a in range(process.num_actions)])
        np.testing.assert_allclose(action_weights[b], weights / weights.sum(), rtol=1e-5)
        assert action[b] == frontier[0].path[0]


def test_best_of_n_is_n_rollouts():
    output = run(search.best_of_n, num_rollouts=5)
    found = tables.paths(output, 5)
    output = jax.device_get(output)
    tree = output.search_tree
    for b, process in enumerate(PROCESSES):
        nodes = [reference.rollout(process, KEYS[b], 0, NUM_TURNS, index) for index in range(5)]
        np.testing.assert_array_equal(tree.final_returns[b], [node.total for node in nodes])
        nodes.sort(key=lambda node: -node.total)
        assert found[b] == [node.path for node in nodes]
        assert int(output.action[b]) == nodes[0].path[0]
    assert np.array_equal(output.counts.generated, (np.asarray(tree.lengths) > 0).sum((0, 2)))


def test_rollouts_are_nested_in_n():
    half, whole = (run(search.best_of_n, num_rollouts=n) for n in (3, 5))
    np.testing.assert_array_equal(whole.search_tree.action_from_parent[..., :3], half.search_tree.action_from_parent)
    assert np.all(np.asarray(whole.value) >= np.asarray(half.value))


@pytest.mark.parametrize("depth, bootstrap", [(1, True), (2, True), (3, False)])
def test_full_lookahead_is_brute_force(depth, bootstrap):
    output = run(search.lookahead, depth=depth, candidates="enumerate", continuation="full", bootstrap=bootstrap)
    expected = [[reference.lookahead(process, 0, NUM_TURNS, depth, bootstrap)] for process in PROCESSES]
    check_paths(output, expected)


def test_lookahead_weights_are_the_prospects():
    output = run(search.lookahead, depth=3, candidates="enumerate", continuation="full", bootstrap=False)
    action_weights = np.asarray(output.action_weights)
    for b, process in enumerate(PROCESSES):
        weights = np.zeros(process.num_actions)
        for action in process.legal(0):
            child = reference.Node(0).child(process, action)
            weights[action] = math.exp(reference.best_return(process, child, 2, False))
        np.testing.assert_allclose(action_weights[b], weights / weights.sum(), rtol=1e-5)


@pytest.mark.parametrize("distance, free", [("uniform", False), ("fixed", True)])
@pytest.mark.parametrize("threshold", [-1.0, 0.6, math.inf])
def test_backtracking_is_the_state_machine(threshold, distance, free):
    rule = {"steps_back": 2, "distance": distance, "max_retries": 3, "retry_temperature": 1.5}
    output = run(search.entropy_backtrack, entropy_threshold=threshold, num_rollouts=2, free_backtrack=free, **rule)
    tree, action = jax.device_get((output.search_tree, output.action))
    paths = tables.paths(output, 2)
    for b, process in enumerate(PROCESSES):
        ends = []
        for n in range(2):
            end, trace = reference.backtrack(
                process, KEYS[b], 0, NUM_TURNS, index=n, threshold=threshold, free=free, **rule
            )
            made = np.asarray(tree.node_visits[:, b, n], bool)
            assert made.sum() == len(trace.actions)
            np.testing.assert_array_equal(np.asarray(tree.action_from_parent[:, b, n])[made], trace.actions)
            np.testing.assert_array_equal(np.asarray(tree.steps_back[:, b, n])[made], trace.steps_back)
            np.testing.assert_allclose(np.asarray(tree.log_probs[:, b, n])[made], trace.log_probs, rtol=1e-4, atol=1e-6)
            assert int(tree.path_lengths[b, n]) == len(end.path)
            assert float(tree.final_returns[b, n]) == end.total
            ends.append(end)
        ranked = sorted(ends, key=lambda node: -node.total)
        assert paths[b] == [node.path for node in ranked]
        assert action[b] == ranked[0].path[0]


def test_modes_reduce_to_the_plain_rollout():
    outputs = [
        run(search.best_of_n, num_rollouts=1),
        run(search.beam_search, beam_width=1, num_candidates=1),
        run(search.lookahead, depth=2, num_candidates=1),
        run(search.lookahead, depth=2, num_candidates=1, clairvoyant=True),
        run(search.entropy_backtrack, entropy_threshold=math.inf),
    ]
    expected = [[reference.rollout(process, key, 0, NUM_TURNS)] for process, key in zip(PROCESSES, KEYS, strict=True)]
    first = outputs[0].trajectories(1)
    for output in outputs:
        check_paths(output, expected)
        found = output.trajectories(1)
        for name in ("actions", "lengths", "rewards", "log_probs", "mask", "returns"):
            np.testing.assert_array_equal(getattr(found, name), getattr(first, name))


def test_recurrent_fn_runs_under_every_mode():
    for mode, options in MODES:
        two_functions, plain = run(mode, **options), run(mode, model=tables.recurrent_fn, **options)
        found, expected = plain.trajectories(1), two_functions.trajectories(1)
        for name in ("actions", "rewards", "log_probs", "returns"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        counts = jax.device_get(plain.counts)
        np.testing.assert_array_equal(counts.generated, two_functions.counts.generated)
        np.testing.assert_array_equal(counts.policy_forwards, counts.generated + counts.wasted)


def test_gumbel_candidates_differ_and_are_legal():
    output = run(search.beam_search, beam_width=8, num_candidates=2, candidates="gumbel")
    tree = jax.device_get(output.search_tree)
    parents, actions = tree.parents, tree.action_from_parent
    for b, process in enumerate(PROCESSES):
        first = [a for a, visits in zip(actions[0, b], tree.node_visits[0, b], strict=True) if visits]
        assert len(set(first)) == len(first) == min(2, len(process.legal(0)))
        for turn in range(NUM_TURNS):
            pairs = [p for p in zip(parents[turn, b], actions[turn, b], strict=True) if p[1] >= 0]
            assert len(set(pairs)) == len(pairs)


def test_gumbel_frequencies():
    """The first of the candidates drawn without replacement has the policy's distribution."""
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    batch = 4000
    zeros = np.zeros(batch, np.float32)
    root = search.RootFnOutput(prior_logits=np.tile(logits, (batch, 1)), value=zeros, embedding=zeros)
    model = search.Model(
        lambda params, key, action, x: (jnp.zeros(len(x)), jnp.ones(len(x)), x),
        lambda params, key, x: (jnp.tile(logits, (len(x), 1)), jnp.zeros(len(x)), x),
    )
    output = search.beam_search(
        None, jax.random.key(3), root, model, num_turns=1, beam_width=1, num_candidates=2, candidates="gumbel"
    )
    share = np.bincount(np.asarray(output.action), minlength=3) / batch
    np.testing.assert_allclose(share, [0.5, 0.3, 0.2], atol=0.03)


def test_a_turn_that_could_exceed_the_budget_is_not_played():
    budget = np.arange(0, 2 * NUM_ROOTS, 2)
    output = run(search.beam_search, beam_width=3, num_candidates=2, node_budget=budget)
    expected = [
        reference.beam(process, key, 0, NUM_TURNS, 3, num_candidates=2, budget=int(most))
        for process, key, most in zip(PROCESSES, KEYS, budget, strict=True)
    ]
    check_paths(output, [nodes for nodes, _ in expected], k=3)
    np.testing.assert_array_equal(output.counts.generated, [counts["generated"] for _, counts in expected])
    assert np.all(np.asarray(output.counts.generated) <= budget)
    for mode, options in MODES:
        limited, free = run(mode, node_budget=budget, invalid_actions=NONE_INVALID, **options), run(mode, **options)
        assert np.all(np.asarray(limited.counts.generated) <= budget)
        untouched = np.asarray(free.counts.generated) * 20 < budget
        np.testing.assert_array_equal(np.asarray(limited.value)[untouched], np.asarray(free.value)[untouched])
        assert np.all(np.asarray(limited.counts.generated)[budget >= 20] > 0)
        assert int(limited.action[0]) == -1


MANY = tables.processes(8, actions=20)  # more actions than are told apart one by one
MANY_TASKS = tables.table(MANY)


@pytest.mark.parametrize(
    "mode, options",
    [
        (search.beam_search, {"beam_width": 8, "candidates": "enumerate", "deduplicate": True}),
        (search.entropy_backtrack, {"entropy_threshold": 2.2, "steps_back": 2, "max_retries": 2}),
    ],
    ids=["beam", "backtrack"],
)
def test_many_actions(mode, options):
    keys = KEYS[: len(MANY)]
    output = mode(None, keys, tables.root(MANY_TASKS), tables.MODEL, tasks=MANY_TASKS, num_turns=NUM_TURNS, **options)
    if mode is search.beam_search:
        frontiers = [
            reference.beam(p, key, 0, NUM_TURNS, 8, deduplicate=True)[0] for p, key in zip(MANY, keys, strict=True)
        ]
        return check_paths(output, frontiers, k=8)
    rule = {"threshold": 2.2, "steps_back": 2, "distance": "uniform", "max_retries": 2, "retry_temperature": 1.5}
    traces = [reference.backtrack(p, key, 0, NUM_TURNS, free=False, **rule) for p, key in zip(MANY, keys, strict=True)]
    assert sum(back > 0 for _, trace in traces for back in trace.steps_back) > 4
    return check_paths(output, [[end] for end, _ in traces])


def test_custom_score():
    """It sees all of a candidate; nodes that have ended keep their score, those of NaN are dropped."""

    def score(params, c):
        odd = jnp.where(c.embedding % 7 == 3, jnp.nan, 0.0)
        return 0.5 * c.parent_total - c.turn * c.reward + c.action + c.embedding / 8 + 4 * c.discount - c.total + odd

    def plain(parent, child, action, turn):
        if child.state % 7 == 3:
            return math.nan
        discount = child.scale / parent.scale
        return 0.5 * parent.total - turn * child.rewards[-1] + action + child.state / 8 + 4 * discount - child.total

    output = run(search.beam_search, beam_width=3, candidates="enumerate", score=score)
    frontiers = [
        reference.beam(p, key, 0, NUM_TURNS, 3, score=plain)[0] for p, key in zip(PROCESSES, KEYS, strict=True)
    ]
    check_paths(output, frontiers, k=3)


def test_dead_root():
    invalid = np.zeros(ROOT.prior_logits.shape, bool)
    invalid[3] = True
    logits = np.where(invalid, -np.inf, ROOT.prior_logits)
    root = search.RootFnOutput(prior_logits=jnp.asarray(logits), value=ROOT.value, embedding=ROOT.embedding)
    for mode, options in MODES:
        output = run(mode, root=root, **options)
        action, counts, weights = jax.device_get((output.action, output.counts, output.action_weights))
        assert (action[3], counts.generated[3], counts.dead_ends[3]) == (-1, 0, 1)
        assert not np.any(weights[3]) and not np.any(np.asarray(output.trajectories(1).mask)[3])
        assert np.all(np.delete(action, 3) >= 0)
        masked = run(mode, invalid_actions=invalid, node_budget=PLENTY, **options)
        np.testing.assert_array_equal(masked.action, output.action)


COIN_MODES = (
    (search.best_of_n, {"num_rollouts": 1}),
    (search.best_of_n, {"num_rollouts": 3}),
    (search.beam_search, {"beam_width": 3, "num_candidates": 1}),
    (search.beam_search, {"beam_width": 1, "num_candidates": 2}),
    (search.lookahead, {"depth": 1, "num_candidates": 3}),
    (search.lookahead, {"depth": 1, "num_candidates": 2, "beam_width": 3}),
    (search.lookahead, {"depth": 1, "num_candidates": 1, "beam_width": 2, "clairvoyant": True}),
    (search.lookahead, {"depth": 1, "num_candidates": 3, "clairvoyant": True}),
    (search.entropy_backtrack, {"entropy_threshold": 0.1}),
    (search.entropy_backtrack, {"entropy_threshold": 0.1, "clairvoyant": True}),
    (search.entropy_backtrack, {"entropy_threshold": 0.1, "num_rollouts": 3}),
)


def toss(params, key, action, x):
    """Whatever is done earns 1 or −1, a fair coin's choice."""
    reward = (jax.random.key_data(key)[:, 1] >> 31).astype(jnp.float32) * 2 - 1
    return reward, jnp.ones_like(reward), x


COIN = search.Model(toss, lambda params, key, x: (jnp.zeros((len(x), 3)), jnp.zeros_like(x), x))


@pytest.mark.parametrize("mode, options", COIN_MODES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_outcomes_are_lucky_exactly_where_they_are_called_simulated(mode, options):
    zeros = np.zeros(4096, np.float32)
    root = search.RootFnOutput(prior_logits=np.zeros((4096, 3), np.float32), value=zeros, embedding=zeros)
    output = mode(None, jax.random.key(1), root, COIN, num_turns=3, **options)
    luck = np.asarray(output.trajectories(1).returns).mean()
    assert output.simulated == output.trajectories(1).simulated
    if output.simulated:
        assert luck > 0.4
    else:
        assert abs(luck) < 0.12  # 4.4 standard deviations


def replayed_turns(process, key, trajectory, temperature, after):
    """Draws and plays a root's path in plain Python; returns why each turn was over before it had its L actions.

    `after(state, action, word)` is the next state.
    """
    state, scale, total, reasons = 0, 1.0, 0.0, []
    for actions, length, reward, log_prob, index in zip(*trajectory, strict=True):
        if not length:
            assert np.all(actions == -1)
            continue
        word, earned, expected, within = reference.words(key, index[0], index[1] + 1)[index[1]], 0.0, 0.0, 1.0
        for number, action in enumerate(actions[:length]):
            own = reference.mixed(word, 16 + number) if number else word
            assert scale * within != 0 and action == reference.sampled(process.logits[state], temperature, own)
            expected += math.log(reference.probabilities(process.logits[state], temperature)[action])
            earned += within * float(process.reward[state, action])
            within *= float(process.discount[state, action])
            state = after(state, action, own)
        assert np.all(actions[length:] == -1)
        assert float(reward) == earned
        assert float(log_prob) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        total, scale = total + scale * earned, scale * within
        over = scale == 0 or not process.legal(state)
        reasons.append("full" if length == len(actions) else "over" if over else "cut")
    return total, reasons


def turns_of(output, b):
    found = jax.device_get(output.trajectories(1))
    return [getattr(found, name)[b, 0] for name in ("actions", "lengths", "rewards", "log_probs", "words")]


TURNS = {"depth": 1, "num_candidates": 2, "max_turn_actions": 3, "temperature": 0.7}


def test_turns_without_chance_are_played_as_they_were_simulated():
    output = run(search.lookahead, **TURNS)
    seen = set()
    for b, (process, key) in enumerate(zip(PROCESSES, KEYS, strict=True)):
        after = lambda state, action, word, process=process: int(process.next[state, action])
        total, reasons = replayed_turns(process, key, turns_of(output, b), 0.7, after)
        assert total == float(output.trajectories(1).returns[b, 0])
        seen |= set(reasons)
    assert seen == {"full", "over"}


SLIPPERY = reference.random_process(3, states=12, actions=3, ends=0.05, illegal=0.4)


def slip(params, key, action, state):
    """Half of the steps go to the state after the one that the action leads to."""
    next_state, reward, discount = (jnp.asarray(getattr(SLIPPERY, name)) for name in ("next", "reward", "discount"))
    slipped = (jax.random.key_data(key)[:, 1] >> 31).astype(jnp.int32)
    landed = (next_state[state, action].astype(jnp.int32) + slipped) % 12
    return reward[state, action], discount[state, action], landed


SLIPPERY_KEYS = tables.keys(64, seed=5)


def on_slippery_ground(mode, actions=3, **options):
    evaluate = lambda params, key, state: (jnp.asarray(SLIPPERY.logits)[state], jnp.zeros(len(state)), state)
    number = len(SLIPPERY_KEYS)
    root = search.RootFnOutput(
        prior_logits=np.tile(SLIPPERY.logits[0], (number, 1)), value=np.zeros(number, np.float32),
        embedding=np.zeros(number, np.int32),
    )  # fmt: skip
    model = search.Model(slip, evaluate)
    return mode(
        None, SLIPPERY_KEYS, root, model, num_turns=4, max_turn_actions=actions, temperature=1.3, **options
    )  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"beam_width": 2}, {"clairvoyant": True}], ids=str)
def test_under_chance_later_actions_are_drawn_where_the_turn_has_led(options):
    """By the policy there, so that none is illegal and exported log-probabilities are those of the draws."""
    output = on_slippery_ground(search.lookahead, depth=1, num_candidates=2, **options)
    after = lambda state, action, word: (int(SLIPPERY.next[state, action]) + (word >> 31)) % 12
    seen = set()
    for b, key in enumerate(SLIPPERY_KEYS):
        seen |= set(replayed_turns(SLIPPERY, key, turns_of(output, b), 1.3, after)[1])
    assert "full" in seen and seen <= {"full", "over"}
    first = np.asarray(output.trajectories(1).actions)[:, 0]
    np.testing.assert_array_equal(output.action, first[:, 0])


@pytest.mark.parametrize("clairvoyant", [False, True])
def test_backtracking_on_slippery_ground(clairvoyant):
    """A clairvoyant turn uses the word of its position, a retried one too; it is drawn with that of its iteration."""
    rule = {"steps_back": 2, "max_retries": 2, "retry_temperature": 2.0}
    output = on_slippery_ground(
        search.entropy_backtrack, actions=1, entropy_threshold=0.5, num_rollouts=2, clairvoyant=clairvoyant, **rule
    )
    tree, paths = jax.device_get(output.search_tree), tables.paths(output, 2)
    after = lambda state, action, word: (int(SLIPPERY.next[state, action]) + (word >> 31)) % 12
    for b, key in enumerate(SLIPPERY_KEYS):
        ends = []
        for n in range(2):
            end, trace = reference.backtrack(
                SLIPPERY, key, 0, 4, index=n, threshold=0.5, distance="uniform", free=False, temperature=1.3,
                after=after, clairvoyant=clairvoyant, **rule,
            )  # fmt: skip
            made = tree.node_visits[:, b, n] > 0
            np.testing.assert_array_equal(tree.action_from_parent[:, b, n][made], trace.actions)
            np.testing.assert_array_equal(tree.steps_back[:, b, n][made], trace.steps_back)
            ends.append(end)
        assert paths[b] == [node.path for node in sorted(ends, key=lambda node: -node.total)]
    assert (tree.steps_back > 0).sum() > 20


def test_turns_of_one_candidate_are_the_plain_rollout_under_chance():
    plain, ahead = (
        on_slippery_ground(search.best_of_n, num_rollouts=1).trajectories(1),
        on_slippery_ground(search.lookahead, depth=1, num_candidates=1).trajectories(1),
    )
    for name in ("actions", "lengths", "rewards", "log_probs", "mask", "returns"):
        np.testing.assert_array_equal(getattr(ahead, name), getattr(plain, name))


def test_64_bit_mode_changes_nothing():
    """Neither do a model and a root whose numbers are in double precision."""

    def wide(*numbers):
        return (jnp.asarray(x, float) for x in numbers)

    def step(*given):
        reward, discount, state = tables.step(*given)
        return *wide(reward, discount), state

    def evaluate(*given):
        logits, value, state = tables.evaluate(*given)
        return *wide(logits, value), state

    model, weights = search.Model(step, evaluate, tables.MODEL.state_key), []

    def results(root, model):
        for mode, options in WIDE_MODES:
            output = run(mode, model=model, root=root, **options)
            yield output, output.trajectories(1), output.trajectories(1).plan()
        output = search.mcts(None, KEYS, root, model, tasks=TASKS, num_simulations=5)
        weights.append(np.asarray(output.action_weights))
        yield output.action, output.counts, output.search_tree.node_visits
        yield search.next_root(None, KEYS, root, model, output.action, tasks=TASKS)

    narrow = jax.device_get(list(results(ROOT, tables.MODEL)))
    with jax.enable_x64(True):
        logits, value = wide(ROOT.prior_logits, ROOT.value)
        assert logits.dtype == value.dtype == np.float64
        double = jax.device_get(list(results(ROOT.replace(prior_logits=logits, value=value), model)))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(narrow), jax.tree.leaves(double), strict=True):
        assert a.dtype == b.dtype, jax.tree_util.keystr(path)
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
    np.testing.assert_allclose(*weights, rtol=1e-5)  # mctx computes these in double precision


# Searches of the tests above, whose programs are there.
WIDE_MODES = (
    (search.best_of_n, {"num_rollouts": 3}),
    (search.beam_search, {"beam_width": 4, "num_candidates": 3, "deduplicate": True, "score": "step"}),
    (search.lookahead, TURNS),
    (search.entropy_backtrack, {"entropy_threshold": 0.6, "num_rollouts": 2}),
)
