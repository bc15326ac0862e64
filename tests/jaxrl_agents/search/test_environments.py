"""Searches in the environments: optima, replay, masks, chance and batches."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

import envs_jax
from envs_jax.frozen_lake import planning
from envs_jax.frozen_lake.env import FrozenLakeState
from jaxrl_agents import search
from tests.jaxrl_agents.search import tables
from tests.jaxrl_agents.search.roots import started
from tests.reference import sokoban as reference

pytestmark = pytest.mark.usefixtures("quick_compilation")


def batch(env, tasks, number):
    """The first tasks of a bank, their initial states and the root of a search there."""
    picked = tasks[np.arange(number)]
    model = search.from_env(env)
    return model, picked, started(env, model, picked.instances)


@pytest.fixture(scope="module")
def small():
    """6×6 rooms with one box."""
    env, tasks = envs_jax.make("Sokoban-RAGEN-v0", num_levels=32, time_limit=40)
    return env, *batch(env, tasks, 32)


def breadth_first(env, task, limit):
    """Moves to the nearest goal, stepping the environment itself; None beyond the limit."""
    start = jax.device_get(first(env, task))
    layer, seen = [start], set()
    for depth in range(1, limit + 1):
        after = []
        for state in layer:
            children, terminated, success, keys = jax.device_get(expanded(env, state, task))
            if success.any():
                return depth
            for action, name in enumerate(map(tuple, keys.tolist())):
                if name not in seen and not terminated[action]:
                    seen.add(name)
                    after.append(jax.tree.map(lambda leaf, action=action: leaf[action], children))
        layer = after
    return None


@jax.jit
def first(env, task):
    return env.initial(jnp.uint32(0), task)


@jax.jit
def expanded(env, state, task):
    """(states, terminated, success, state keys), [A, …] each, after every action."""
    out = jax.vmap(env.transition, in_axes=(None, 0, None, None))(state, jnp.arange(4), jnp.uint32(0), task)
    success = jax.vmap(env.success, in_axes=(0, None))(out.state, task)
    return out.state, out.terminated, success, jax.vmap(env.state_key)(out.state)


def rows_of(tree, rows):
    """Some rows of every leaf, taken in NumPy: an operation of JAX would be compiled for each."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[rows]), tree)


def test_wide_deduplicated_beam_finds_the_shortest_plan(small):
    env, model, tasks, root = small
    number = 6
    picked, few = tasks[np.arange(number)], rows_of(root, np.arange(number))
    output = search.beam_search(
        None, jax.random.key(0), few, model, tasks=picked, num_turns=14, beam_width=400, candidates="enumerate",
        deduplicate=True,
    )  # fmt: skip
    lengths = np.asarray(output.trajectories(1).mask[:, 0]).sum(1)
    for b in range(number):
        optimum = breadth_first(env, picked[b], 14)
        solved = float(output.value[b]) > 5
        assert solved == (optimum is not None)
        if solved:
            assert lengths[b] == optimum


def test_beam_finds_the_shortest_way_over_ice():
    env, tasks = envs_jax.make("FrozenLake-8x8-v0", is_slippery=False)
    model, picked, root = batch(env, tasks, 1)
    output = search.beam_search(
        None, jax.random.key(0), root, model, tasks=picked, num_turns=20, beam_width=64, candidates="enumerate",
        deduplicate=True, score=lambda params, c: c.total - 0.01 * c.turn.astype(jnp.float32),
    )  # fmt: skip
    assert np.asarray(output.trajectories(1).mask)[0, 0].sum() == breadth_first(env, picked[0], 20)


ENDED_BEAMS = {"num_turns": 8, "beam_width": 16, "num_candidates": 4, "deduplicate": True}


def test_exported_paths_replay(small):
    """States, rewards and log-probabilities are those of playing the actions."""
    env, model, tasks, root = small
    masks = jax.jit(jax.vmap(jax.vmap(env.action_mask), in_axes=(1, None)))
    for mode, options in (
        (search.best_of_n, {"num_rollouts": 4}),
        (search.beam_search, ENDED_BEAMS),
        (search.lookahead, {"depth": 2, "num_candidates": 3, "beam_width": 2}),
        (search.entropy_backtrack, {"entropy_threshold": 0.9, "num_rollouts": 4}),
    ):
        options = {"num_turns": 8, "temperature": 0.7} | options
        output = mode(None, jax.random.key(1), root, model, tasks=tasks, **options)
        found = jax.device_get(output.trajectories(2))
        for k in range(2):
            played = search.execute(None, jax.random.key(9), root, model, found.actions[:, k], tasks=tasks)
            mask = np.asarray(found.mask[:, k])
            np.testing.assert_array_equal(np.where(mask, played.rewards, 0), found.rewards[:, k])
            np.testing.assert_array_equal(played.mask, mask)
            np.testing.assert_allclose(played.returns, found.returns[:, k], atol=1e-5)
            legal_at = np.asarray(masks(played.embeddings, tasks.instances))
            for t, legal in enumerate(legal_at[: mask.shape[1]]):
                actions = np.asarray(found.actions[:, k, t])
                took = mask[:, t]
                assert legal[np.flatnonzero(took), actions[took]].all()
                np.testing.assert_allclose(
                    np.asarray(found.log_probs[:, k, t])[took], -np.log(legal.sum(1)[took]), rtol=1e-5
                )


SOLVING = {"num_turns": 16, "beam_width": 64, "candidates": "enumerate", "deduplicate": True}


def test_solutions_replay_in_plain_python(small):
    env, model, tasks, root = small
    output = search.beam_search(None, jax.random.key(0), root, model, tasks=tasks, **SOLVING)
    plans, solved = np.asarray(jax.device_get(output.trajectories(1)).plan()), np.asarray(output.value) > 5
    assert solved.mean() > 0.9
    for b in np.flatnonzero(solved):
        task = tasks[int(b)]
        level = reference.parse_level(env.render_text(first(env, task), task))
        states = reference.play(level, plans[b][plans[b] >= 0].tolist())
        assert reference.is_solved(level, states[-1])


def test_ended_beams_are_unique_and_nothing_is_played_after_the_end(small):
    env, model, tasks, root = small
    output = search.beam_search(None, jax.random.key(0), root, model, tasks=tasks, **ENDED_BEAMS)
    found = output.trajectories(16)
    actions, scores = np.asarray(found.actions), np.asarray(found.scores)
    for b in range(len(actions)):
        real = [tuple(path) for path, score in zip(actions[b], scores[b], strict=True) if score > -np.inf]
        assert len(set(real)) == len(real)
    assert not np.any(np.asarray(found.mask)[..., 1:] & ~np.asarray(found.mask)[..., :-1])


@pytest.fixture(scope="module")
def maps():
    """Slippery 4×4 maps, different ones: chance and boards differ from root to root."""
    env, tasks = envs_jax.make("FrozenLake-RAGEN-v0", seed=0)
    return env, *batch(env, tasks, 32)


@pytest.mark.parametrize(
    "mode, options",
    [
        (search.beam_search, {"beam_width": 3, "num_candidates": 3, "deduplicate": True}),
        (search.best_of_n, {"num_rollouts": 3}),
        (search.lookahead, {"depth": 2, "num_candidates": 2, "beam_width": 2}),
        (search.entropy_backtrack, {"entropy_threshold": 0.9, "num_rollouts": 2}),
    ],
)
def test_roots_do_not_depend_on_the_batch(maps, mode, options):
    env, model, tasks, root = maps
    keys = jax.random.split(jax.random.key(4), 32)

    def part(rows):
        return mode(None, keys[rows], rows_of(root, rows), model, tasks=tasks[rows], num_turns=6, **options)

    output = part(np.arange(32))
    whole = jax.device_get(output.trajectories(2))
    order = np.random.default_rng(0).permutation(32)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[order]), part(order).trajectories(2), whole)
    chunked = search.chunked(mode, None, keys, root, model, tasks=tasks, chunk_size=7, num_turns=6, **options)
    jax.tree.map(np.testing.assert_array_equal, chunked.trajectories(2), whole)
    np.testing.assert_array_equal(chunked.counts.generated, output.counts.generated)


DEVICES = """
import jax, jax.numpy as jnp, numpy as np, envs_jax
from jax.sharding import NamedSharding, PartitionSpec
from jaxrl_agents import search
env, bank = envs_jax.make("FrozenLake-v0")
tasks = bank[np.zeros(16, int)]
model = search.from_env(env)
root = jax.jit(lambda tasks: model.root(None, jax.vmap(env.initial)(jnp.zeros(16, jnp.uint32), tasks), tasks))(
    tasks.instances
)
keys = jax.random.split(jax.random.key(0), 16)
def run(keys, root, tasks):
    return search.beam_search(None, keys, root, model, tasks=tasks, num_turns=5, beam_width=3, num_candidates=2)
one = run(keys, root, tasks.instances)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
spread = jax.device_put((keys, root, tasks.instances), NamedSharding(mesh, PartitionSpec("data")))
eight = jax.jit(run)(*spread)
assert len(eight.action.sharding.device_set) == 8
jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(eight))
print("same")
"""


def test_eight_devices_give_the_same():
    flags = {
        **os.environ,
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {os.environ.get('XLA_FLAGS', '')}",
    }
    done = subprocess.run([sys.executable, "-c", DEVICES], env=flags, capture_output=True, text=True, cwd=os.getcwd())
    assert done.stdout.strip().endswith("same"), done.stderr


def test_visits_are_mctx_own(maps):
    env, model, tasks, root = maps
    discounted = search.from_env(env, discount=0.9)
    logits = jax.random.normal(jax.random.key(2), root.prior_logits.shape)
    root = search.RootFnOutput(prior_logits=logits, value=root.value, embedding=root.embedding)
    key = jax.random.key(7)
    for policy, options in (("gumbel_muzero", {"gumbel_scale": 0.0}), ("muzero", {"dirichlet_fraction": 0.1})):
        ours = search.mcts(
            None, key, root, discounted, tasks=tasks, num_simulations=24, policy=policy, max_depth=6, **options
        )
        alone = partial(getattr(mctx, f"{policy}_policy"), num_simulations=24, max_depth=6, **options)
        theirs = jax.jit(lambda *args, alone=alone: alone(*args, recurrent_fn=discounted))(
            (None, tasks.instances), key, root
        )
        np.testing.assert_array_equal(ours.search_tree.node_visits, theirs.search_tree.node_visits)
        np.testing.assert_array_equal(ours.action, theirs.action)
        np.testing.assert_allclose(ours.action_weights, theirs.action_weights, rtol=1e-5)


def test_mcts_on_a_table_written_apart():
    """The same process as arrays and as a Model gives the same visits; its best path follows them."""
    processes = tables.processes(16)
    tasks = tables.table(processes)
    root = tables.root(tasks)
    run = lambda model: search.mcts(
        None, jax.random.key(0), root, model, tasks=tasks, num_simulations=20, gumbel_scale=0.0
    )

    def recurrent_fn(*args):
        output, state = tables.recurrent_fn(*args)
        finite = jnp.maximum(output.prior_logits, jnp.finfo(jnp.float32).min)  # as mctx wants it
        return output.replace(prior_logits=finite), state

    ours, plain = run(tables.MODEL), run(recurrent_fn)
    np.testing.assert_array_equal(ours.search_tree.node_visits, plain.search_tree.node_visits)
    counts, found, children_visits = jax.device_get(
        (ours.counts, ours.trajectories(1), ours.search_tree.children_visits)
    )
    np.testing.assert_array_equal(counts.generated + counts.wasted, 20)
    for b, process in enumerate(processes):
        visits = children_visits[b, 0]
        assert all(visits[a] == 0 for a in range(process.num_actions) if a not in process.legal(0))
        state = 0
        for action, reward, took in zip(found.actions[b, 0], found.rewards[b, 0], found.mask[b, 0], strict=True):
            if took:
                assert float(reward) == process.reward[state, int(action)]
                state = int(process.next[state, int(action)])


@pytest.fixture(scope="module")
def slippery():
    env, tasks = envs_jax.make("FrozenLake-v0")
    picked = tasks[np.zeros(2048, int)]
    model = search.from_env(env)
    return env, model, picked, started(env, model, picked.instances)


def test_lookahead_is_not_clairvoyant(slippery):
    """One step before the goal, a planner that knew the slip would get there whenever any action can.

    Down, right and up reach the goal with 1/3 each, left never does; the first simulated success is committed.
    """
    env, model, tasks, root = slippery
    number = len(root.value)
    beside_goal = FrozenLakeState(np.full(number, 3, np.uint8), np.full(number, 2, np.uint8), root.embedding.steps)
    near = jax.jit(model.root)(None, beside_goal, tasks.instances)
    run = lambda clairvoyant: search.lookahead(
        None, jax.random.key(0), near, model, tasks=tasks, num_turns=1, depth=1, candidates="enumerate",
        continuation="full", clairvoyant=clairvoyant,
    )  # fmt: skip
    honest, seer = (jax.device_get(run(flag).trajectories(1)) for flag in (False, True))
    foreseen = honest.actions[:, 0, 0] > 0  # a simulated success
    assert abs(foreseen.mean() - 19 / 27) < 0.04
    assert abs(np.asarray(honest.returns[:, 0])[foreseen].mean() - 1 / 3) < 0.04
    assert abs(np.asarray(seer.returns[:, 0]).mean() - 19 / 27) < 0.04
    assert not honest.simulated
    assert seer.simulated


def test_execute_draws_afresh(slippery):
    env, model, tasks, root = slippery
    plan = np.full((len(root.value), 1), 2, np.int32)  # right: moves right, up (stays) or down with 1/3 each
    played = search.execute(None, jax.random.key(3), root, model, plan, tasks=tasks)
    moved = np.asarray(played.embeddings.column)[:, 1]
    assert abs(moved.mean() - 1 / 3) < 0.04
    best = search.best_of_n(None, jax.random.key(3), root, model, tasks=tasks, num_turns=30, num_rollouts=8)
    again = search.execute(None, jax.random.key(8), root, model, best.trajectories(1).plan(), tasks=tasks)
    assert best.simulated
    assert np.asarray(best.value).mean() > 3 * np.asarray(again.returns).mean()  # the simulated outcome is optimistic


def test_backtracked_steps_are_drawn_afresh(slippery):
    env, model, tasks, root = slippery
    run = lambda clairvoyant: search.entropy_backtrack(
        None, jax.random.key(5), root, model, tasks=tasks, num_turns=2, entropy_threshold=-1.0, max_retries=1,
        steps_back=1, retry_temperature=1e-3, clairvoyant=clairvoyant,
    )  # fmt: skip
    honest, seer = jax.device_get((run(False).search_tree, run(True).search_tree))
    assert np.all(honest.steps_back[1] == 1)
    same = (honest.action_from_parent[0] == honest.action_from_parent[1]).mean()
    assert 0.2 < same < 0.7
    assert not np.array_equal(honest.action_from_parent[1], seer.action_from_parent[0])


def test_full_lookahead_over_ice_has_the_planned_value():
    """Where nothing slips, it earns the exact discounted optimum if the goal is within sight, else nothing."""
    env, tasks = envs_jax.make("FrozenLake-RAGEN-v0", seed=0, is_slippery=False)
    _, picked, root = batch(env, tasks, 32)
    output = search.lookahead(
        None, jax.random.key(0), root, search.from_env(env, discount=0.9), tasks=picked, num_turns=4, depth=4,
        candidates="enumerate", continuation="full",
    )  # fmt: skip

    def optimum(env, task):
        return planning.start_value(env, task, planning.infinite_horizon(env, task, 0.9).values)

    optima = jax.jit(jax.vmap(optimum, in_axes=(None, 0)))(env, picked.instances)
    within_sight = np.asarray(optima) > 0.9**3.5  # a goal four steps away is worth 0.9³
    np.testing.assert_allclose(output.value, np.where(within_sight, optima, 0), rtol=1e-5)
    assert 0.2 < within_sight.mean() < 1


def test_next_root_goes_where_the_search_said(small):
    """Searching and taking one turn at a time solves rooms; the child is evaluated as `model.root` would."""
    env, model, tasks, root = small
    here, total = root, np.zeros(32)
    for turn in range(12):
        output = search.beam_search(None, jax.random.key(turn), here, model, tasks=tasks, **SOLVING)
        here, played = search.next_root(None, jax.random.key(100 + turn), here, model, output.action, tasks=tasks)
        total += np.asarray(played.returns)
        if turn == 0:
            rewards, expected = jax.device_get((played.rewards, output.trajectories(1).rewards))
            np.testing.assert_allclose(rewards[:, 0], expected[:, 0, 0])
    again = jax.jit(model.root)(None, here.embedding, tasks.instances)
    np.testing.assert_array_equal(again.prior_logits, here.prior_logits)
    assert (total > 5).mean() > 0.8


def test_counts_equal_the_calls():
    """On tables, which have ends, dead ends and illegal actions."""
    tasks, model = tables.table(tables.processes(16)), tables.MODEL
    root = tables.root(tasks)
    calls = {"step": 0, "evaluate": 0}

    def tick(name):
        def add(x):
            calls[name] += int(np.size(x))

        return add

    def step(params, key, action, state):
        jax.debug.callback(tick("step"), action + state)
        return model.step(params, key, action, state)

    def evaluate(params, key, state):
        logits, value, state = model.evaluate(params, key, state)
        jax.debug.callback(tick("evaluate"), state)
        return logits, value, state

    shim = search.Model(step, evaluate, model.state_key)
    for mode, options in (
        (search.best_of_n, {"num_rollouts": 3}),
        (search.beam_search, {"beam_width": 3, "num_candidates": 2}),
        (search.beam_search, {"beam_width": 2, "num_candidates": 2, "max_turn_actions": 2}),
        (search.lookahead, {"depth": 2, "num_candidates": 2}),
        (search.lookahead, {"depth": 2, "candidates": "enumerate", "continuation": "full", "bootstrap": False}),
        (search.entropy_backtrack, {"entropy_threshold": 0.9}),
    ):
        calls.update(step=0, evaluate=0)
        output = mode(None, jax.random.key(1), root, shim, tasks=tasks, num_turns=5, **options)
        jax.effects_barrier()
        counts = jax.tree.map(lambda leaf: int(np.sum(leaf)), output.counts)
        assert counts.generated + counts.wasted == calls["step"], mode.__name__
        assert counts.policy_forwards == calls["evaluate"], mode.__name__
        assert counts.generated == counts.unique
        assert counts.evaluated <= counts.policy_forwards
