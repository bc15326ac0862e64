import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from envs_jax.frozen_lake import planning
from envs_jax.web.pages import Segment
from envs_jax.web.state_machine import Page
from jaxrl_agents.methods import tsr
from jaxrl_agents.methods.tsr import base
from jaxrl_agents.methods.tsr.scores import overlap
from jaxrl_agents.rollouts import Beam, Standard
from jaxrl_agents.search.types import Candidate

pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = tsr.Sizes(d_model=8, num_layers=1)
MAP = ["SFFH", "FFHF", "HFFG"]


@pytest.fixture(scope="module")
def lake():
    return envs_jax.make("FrozenLake-v0", map=MAP, observation="tokens")


def scored(score, env, states, tasks):
    nothing = jnp.zeros(len(states.steps))
    return score(env, (None, tasks), Candidate(states, None, nothing, nothing, nothing, nothing, jnp.int32(0)))


def test_the_lake_score_is_minus_the_distance_and_less_in_holes(lake):
    env, tasks = lake
    cells = list(itertools.product(range(3), range(4)))
    rows, columns = (jnp.array(leaf, jnp.uint8) for leaf in zip(*cells, strict=True))
    _, state = env.reset(jax.random.key(0), tasks[0])
    states = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], len(cells), 0), state)
    states = dataclasses.replace(states, row=rows, column=columns)
    alike = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(cells), 0), tasks.instances)
    found = scored(tsr.LakeScore(hole_penalty=7.0), env, states, alike)
    wanted = [-(abs(2 - row) + abs(3 - column)) - 7 * (MAP[row][column] == "H") for row, column in cells]
    np.testing.assert_array_equal(found, wanted)


def test_overlap_counts_distinct_words_of_the_instruction():
    instruction, title, pad = Segment.INSTRUCTION, Segment.TITLE, Segment.PADDING
    word = jnp.array([5, 7, 5, 9, 7, 9, 11, 0], jnp.uint16)
    segment = jnp.array([instruction] * 4 + [title, title, title, pad], jnp.uint8)
    assert float(overlap(word, segment)) == pytest.approx(2 / 3)  # of {5, 7, 9} the page shows {7, 9}
    nothing = jnp.full(8, pad, jnp.uint8)
    assert float(overlap(word, nothing)) == 0


def test_the_shop_score_rises_with_milestones_and_sees_the_page():
    env, tasks = envs_jax.make("WebShop-v0", num_products=30)
    task, actions = tasks[0], env.actions
    score = tsr.ShopScore(milestone_weight=10.0, similarity_weight=1.0)
    step = jax.jit(env.step)
    _, state = env.reset(jax.random.key(0), task)
    states = [state]
    for action in (1, actions.products, actions.buy):
        _, state, *_ = step(jax.random.key(0), state, action, task)
        states.append(state)
    assert [int(state.page) for state in states] == [Page.INDEX, Page.RESULTS, Page.ITEM, Page.DONE]
    alike = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(states)), task)
    found = np.asarray(scored(score, env, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), alike))
    similar = []
    for state in states[:3]:
        shown = [env.vocabulary[i] for i in np.asarray(env.observe(state, task)["word"])]
        segment = np.asarray(env.observe(state, task)["segment"])
        asked = {word for word, kind in zip(shown, segment, strict=True) if kind == Segment.INSTRUCTION}
        there = {word for word, kind in zip(shown, segment, strict=True) if kind > Segment.INSTRUCTION}
        similar.append(len(asked & there) / len(asked))
    np.testing.assert_allclose(found, [similar[0], similar[1], 10 + similar[2], 30 + similar[2]], rtol=1e-6)


def value_by_enumeration(model, cell, turns, left, longest):
    """The best expected return from a cell, trying every sequence of actions in every turn."""
    if not turns or not left or model.terminal[cell]:
        return 0.0
    best = -np.inf
    for length in range(1, min(longest, left) + 1):
        for actions in itertools.product(range(4), repeat=length):
            where, total = {cell: 1.0}, 0.0
            for action in actions:
                after = {}
                for state, weight in where.items():
                    total += weight * (model.probability[state, action] * model.reward[state, action]).sum()
                    for other in np.flatnonzero(model.probability[state, action]):
                        after[other] = after.get(other, 0) + weight * model.probability[state, action, other]
                where = after
            total += sum(
                weight * value_by_enumeration(model, state, turns - 1, left - length, longest)
                for state, weight in where.items()
            )
            best = max(best, total)
    return best


def test_the_optimum_of_turns_is_that_of_trying_every_sequence():
    env, tasks = envs_jax.make("FrozenLake-v0", map=["SF", "FG"], observation="tokens")
    model = jax.tree.map(np.asarray, planning.transition_tensor(env, tasks[0]))
    found = tsr.turn_optimum(env, tasks, num_turns=2, max_turn_actions=2, num_actions=3)
    assert float(found[0]) == pytest.approx(value_by_enumeration(model, 0, 2, 3, 2), abs=1e-6)


def test_the_optimum_of_single_actions_is_that_of_planning(lake):
    env, tasks = lake
    found = tsr.turn_optimum(env, tasks, num_turns=6, max_turn_actions=1, num_actions=6)
    assert float(found[0]) == pytest.approx(float(planning.optimal_return(env, tasks[0], 6)), abs=1e-6)


def problem(name, **arguments):
    domain = tsr.DOMAINS[name]
    few = tuple((key, 300 if key.startswith("num_") else value) for key, value in domain.arguments)
    return tsr.problem(dataclasses.replace(domain, arguments=few, **arguments), SMALL, seed=0)


def test_plans_for_rooms_solve_them():
    given = problem("sokoban")
    env = given.policy.env
    tasks, actions = base.plans(given)
    assert actions.shape[1:] == (5, 5) and len(tasks) > 0.8 * len(given.tasks)
    assert (np.asarray(actions)[..., 2:] == -1).all()  # ten actions last for five turns
    step = jax.jit(env.step)
    for number in range(3):
        task = tasks[number]
        _, state = env.reset(jax.random.key(0), task)
        for action in np.asarray(actions[number]).ravel():
            if action >= 0:
                _, state, *_ = step(jax.random.key(0), state, int(action), task)
        assert bool(env.success(state, task))


def test_the_search_ranks_by_the_score_of_the_domain():
    """The score sees the environment as an argument of the jitted program."""
    given = problem("frozen-lake", max_turn_actions=1, num_turns=4)
    params = given.policy.model.init(jax.random.key(0))
    instances = jax.tree.map(lambda leaf: leaf[:8], given.tasks.instances)
    guided = tsr.guided(Beam(beam_width=4, num_candidates=4), given.domain)
    assert isinstance(guided, tsr.Guided)
    play = lambda strategy: jax.jit(
        lambda policy, key: strategy(params, key, policy, instances, group_size=2, num_turns=4).success.mean()
    )(given.policy, jax.random.key(0))
    assert play(guided) > play(Beam(beam_width=4, num_candidates=4, score=lambda _, candidate: -candidate.total))
    assert tsr.guided(Standard(), given.domain) == Standard()
    assert tsr.guided(Beam(), tsr.DOMAINS["sokoban"]) == Beam()


@pytest.mark.parametrize(
    "make, fields, message",
    [
        (tsr.Sizes, {"learning_rate": -1}, "learning_rate=-1.0 must be a finite number above 0"),
        (tsr.Sizes, {"base_learning_rate": np.nan}, "base_learning_rate=nan"),
        (tsr.Sizes, {"num_epochs": 0}, "num_epochs=0 must be at least 1"),
        (tsr.LakeScore, {"hole_penalty": -5}, "hole_penalty=-5 must be a finite number of at least 0"),
        (tsr.ShopScore, {"similarity_weight": np.nan}, "similarity_weight=nan must be a finite number"),
    ],
)
def test_wrong_numbers_are_refused(make, fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


@pytest.mark.slow
def test_the_larger_domains_are_made_and_shops_are_learned_in():
    """An update on WebShop with a beam over turns of an episode; 8×8 rooms are the other rooms, but for their size."""
    rooms = problem("sokoban-8x8")
    assert len(rooms.held_out) == tsr.NUM_HELD_OUT and rooms.policy.max_turn_actions == 5
    few = (("num_products", 600), ("time_limit", 9))
    given = tsr.problem(dataclasses.replace(tsr.DOMAINS["webshop"], num_turns=2, arguments=few), SMALL, seed=0)
    trainer = tsr.learner(given, Beam(beam_width=2, num_candidates=2), SMALL)
    trainer = dataclasses.replace(trainer, num_groups=4, group_size=4, num_epochs=1, num_minibatches=1)
    start = trainer.init(jax.random.key(0))
    kept = jax.tree.map(jnp.copy, start.params)
    state, metrics = trainer.step(start, given.tasks)
    assert np.isfinite(float(metrics["loss"])) and float(metrics["env_steps"]) >= 4 * 4 * 2
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, kept)
    assert 0 < max(jax.tree.leaves(moved)) < 1


def test_too_few_tasks_are_refused(tmp_path):
    path = tmp_path / "levels.txt"
    path.write_text("; 0\n######\n#@$. #\n######\n")
    with pytest.raises(ValueError, match="boxoban has 1 tasks, of which 256 are held out; give it more"):
        tsr.problem(tsr.boxoban(path), SMALL, seed=0)


def test_held_out_tasks_are_not_trained_on():
    given = problem("sokoban-2box")
    assert len(given.held_out) == tsr.NUM_HELD_OUT
    parts = lambda rooms: (rooms.walls, rooms.targets, rooms.boxes)
    boards = lambda bank: {
        np.asarray(leaf).tobytes()
        for leaf in np.stack([np.asarray(word) for word in jax.tree.leaves(parts(bank.instances))], axis=1)
    }
    assert not boards(given.tasks) & boards(given.held_out)
