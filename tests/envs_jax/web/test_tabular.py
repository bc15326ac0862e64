"""TabularWeb against a plain-Python version: episodes, returns, masks, the optimum, coverage and diversity."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envs_jax
from envs_jax import AutoReset
from envs_jax.web import tabular

pytestmark = pytest.mark.usefixtures("quick_compilation")

reset = jax.jit(lambda env, *args: env.reset(*args))
transition = jax.jit(lambda env, *args: env.transition(*args))
action_mask = jax.jit(lambda env, *args: env.action_mask(*args))


@pytest.fixture(scope="module")
def made():
    return envs_jax.make("TabularWeb-v0")


class PythonWeb:
    """One episode, from the description: links, a set of rewarded pairs, the pairs used."""

    def __init__(self, links, rewarded, required):
        self.links, self.rewarded, self.required = links, rewarded, required
        self.page, self.found = 0, set()

    @property
    def episode_return(self):
        return 1.0 if len(self.found) >= self.required else 0.1 * len(self.found)

    def effective(self, action):
        pair = self.page, action
        return self.links[self.page][action] != self.page or (pair in self.rewarded and pair not in self.found)

    def step(self, action):
        before = self.episode_return
        if (self.page, action) in self.rewarded:
            self.found.add((self.page, action))
        self.page = self.links[self.page][action]
        return self.episode_return - before


def python_web(env, task):
    links = np.asarray(env.links).tolist()
    bits = [int(word) >> i & 1 for word in task.rewarded for i in range(32)]
    rewarded = {divmod(pair, env.num_actions) for pair, bit in enumerate(bits) if bit}
    return PythonWeb(links, rewarded, int(task.required_pairs))


@settings(max_examples=40, deadline=None)
@given(task=st.integers(0, 7), actions=st.lists(st.integers(0, 4), min_size=10, max_size=10))
def test_episodes_are_the_reference_s(made, task, actions):
    env, tasks = made
    task = tasks[task]
    web = python_web(env, task)
    _, state = reset(env, jax.random.key(0), task)
    total = 0.0
    for t, action in enumerate(actions, start=1):
        np.testing.assert_array_equal(action_mask(env, state, task), [web.effective(a) for a in range(5)])
        expected = web.step(action)
        state, reward, terminated, truncated = transition(env, state, np.int32(action), np.uint32(0), task)
        assert float(reward) == pytest.approx(expected, abs=1e-6)
        assert (int(state.page), bool(terminated), bool(truncated)) == (web.page, False, t == 10)
        info = env.info(state, task)
        assert (int(info["found"]), bool(info["success"])) == (len(web.found), len(web.found) >= 4)
        total += float(reward)
        assert total == pytest.approx(web.episode_return, abs=1e-6)
    after, reward, _, truncated = transition(env, state, jnp.int32(0), jnp.uint32(0), task)
    assert reward == 0 and truncated
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_finding_the_last_required_pair_completes_the_return_to_one():
    """A web of one page on which every link is rewarded: each new link pays, a second use does not."""
    env, tasks = tabular.make(num_pages=1, num_tasks=1, reward_probability=1.0, required_pairs=3)
    _, state = env.reset(jax.random.key(0), tasks[0])
    paid = []
    for action in (2, 2, 0, 4, 1, 3):
        _, state, reward, *_ = env.step(jax.random.key(0), state, action, tasks[0])
        paid.append(round(float(reward), 6))
    assert paid == [0.1, 0.0, 0.1, 0.8, 0.0, 0.0]
    assert not env.action_mask(state, tasks[0]).any()  # all links lead here and none is new


def test_default_web_and_tasks(made):
    env, tasks = made
    assert (env.num_pages, env.num_actions, len(tasks)) == (20, 5, 8)
    instances = tasks.instances
    assert (np.asarray(instances.time_limit) == 10).all() and (np.asarray(instances.required_pairs) == 4).all()
    np.testing.assert_array_equal(instances.task_id, np.arange(8))
    counts = [len(python_web(env, tasks[i]).rewarded) for i in range(8)]
    assert len({tuple(int(word[i]) for word in instances.rewarded) for i in range(8)}) == 8
    assert abs(np.mean(counts) - 15) < 4 * np.sqrt(100 * 0.15 * 0.85 / 8)
    _, state = env.reset(jax.random.key(0), tasks[0])
    assert state.page == 0 and sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 19


def test_links_and_rewards_are_uniform():
    env, tasks = tabular.make(num_pages=16, num_actions=256, num_tasks=64, reward_probability=0.3)
    targets = np.bincount(np.asarray(env.links).ravel(), minlength=16)
    assert ((targets - 256) ** 2 / 256).sum() < 37.7  # chi-square at 15 degrees of freedom, p = 0.001
    words = np.array(tasks.instances.rewarded)
    share = np.unpackbits(words.view(np.uint8)).mean()
    assert share == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / (64 * 4096)))


def test_observations(made):
    env, tasks = made
    state = tabular.TabularWebState(jnp.uint8(7), tuple(jnp.uint32(0) for _ in range(4)), jnp.uint16(0))
    for kind, expected in (("index", 7), ("task_index", 3 * 20 + 7), ("tokens", [7, 20 + 3])):
        env, tasks = envs_jax.make("TabularWeb-v0", observation=kind)
        observation = env.observe(state, tasks[3])
        np.testing.assert_array_equal(observation, expected)
        assert env.observation_space.contains(observation)
        assert observation.dtype == env.observation_space.dtype


def test_tasks_of_another_web_are_refused(made):
    env, _ = made
    _, others = envs_jax.make("TabularWeb-v0", seed=1)
    with pytest.raises(ValueError, match="tasks belong to catalogue"):
        AutoReset(env, others).reset(jax.random.key(0), 2)


def best_by_enumeration(env, task):
    best = 0
    for actions in itertools.product(range(env.num_actions), repeat=int(task.time_limit)):
        web = python_web(env, task)
        for action in actions:
            web.step(action)
        best = max(best, len(web.found))
    return best


def test_optimum_equals_enumeration():
    env, tasks = tabular.make(num_pages=6, num_actions=3, num_tasks=4, reward_probability=0.4, time_limit=6)
    for i in range(4):
        found = tabular.optimum(env, tasks[i])
        assert found.pairs == best_by_enumeration(env, tasks[i])
        assert found.episode_return == pytest.approx(1.0 if found.pairs >= 4 else 0.1 * found.pairs)


def test_the_plan_of_the_optimum_earns_it(made):
    env, tasks = made
    for i in range(8):
        found = tabular.optimum(env, tasks[i])
        web = python_web(env, tasks[i])
        total = sum(web.step(action) for action in found.actions)
        assert len(found.actions) == 10 and len(web.found) == found.pairs
        assert total == pytest.approx(found.episode_return)
        assert found.episode_return == 1.0  # all eight default tasks can be solved


def test_optimum_refuses_what_it_cannot_enumerate(monkeypatch, made):
    monkeypatch.setattr(tabular, "MAX_SEARCH_STATES", 100)
    with pytest.raises(ValueError, match="more than 100 states after . of time_limit=10 steps"):
        tabular.optimum(made[0], made[1][0])


@settings(max_examples=30, deadline=None)
@given(
    actions=st.integers(2, 6).flatmap(lambda n: st.lists(st.tuples(*[st.integers(0, 4)] * 7), min_size=n, max_size=n))
)
def test_diversity_is_the_mean_hamming_distance(actions):
    distances = [np.mean([x != y for x, y in zip(a, b, strict=True)]) for a, b in itertools.combinations(actions, 2)]
    assert float(tabular.diversity(jnp.array(actions), 5)) == pytest.approx(np.mean(distances), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=6, max_size=6))
def test_coverage_counts_different_pairs(pairs):
    pages, actions = (jnp.array(x).reshape(2, 3) for x in zip(*pairs, strict=True))
    assert float(tabular.coverage(pages, actions, 4, 3)) == pytest.approx(len(set(pairs)) / 12)


def test_coverage_and_diversity_of_rollouts(made):
    env, tasks = made
    uniform = lambda key, observation, mask: jax.random.randint(key, (), 0, 5)
    keys = jax.random.split(jax.random.key(0), 64)
    task = jax.vmap(tasks.sample)(keys)
    rollouts = jax.jit(jax.vmap(lambda task, key: envs_jax.rollout(env, uniform, task, key, 10)))(task, keys)
    pages = rollouts.state.page[:, :-1]
    share = float(tabular.coverage(pages, rollouts.action, 20, 5))
    used = set(zip(pages.ravel().tolist(), rollouts.action.ravel().tolist(), strict=True))
    assert share == pytest.approx(len(used) / 100)
    # Uniform actions differ with probability 4/5.
    assert float(tabular.diversity(rollouts.action, 5)) == pytest.approx(0.8, abs=0.05)


def test_metrics_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"actions must be \[N, T\] with N ≥ 2 sequences; got shape \(1, 4\)"):
        tabular.diversity(jnp.zeros((1, 4), jnp.int32), 5)
    with pytest.raises(ValueError, match=r"pages has shape \(2,\) and actions \(3,\)"):
        tabular.coverage(jnp.zeros(2, jnp.int32), jnp.zeros(3, jnp.int32), 4, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_pages": 0}, "num_pages=0 is not in 1 … 256"),
        ({"num_pages": 257}, "num_pages=257 is not in 1 … 256"),
        ({"num_actions": 205}, "num_actions=205 is not in 1 … 204"),
        ({"num_tasks": 0}, "num_tasks=0 is not in 1 … 65,516"),
        ({"reward_probability": 1.5}, r"reward_probability=1.5 is not in \[0, 1\]"),
        ({"required_pairs": 11}, "required_pairs=11 is not in 1 … 10"),
        ({"time_limit": 0}, "time_limit=0 is not in 1 … 65,535"),
        ({"observation": "grid"}, "observation='grid' is not one of index, task_index, tokens"),
    ],
)
def test_make_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        tabular.make(**arguments)


def test_text_and_pictures(made):
    env, tasks = made
    task = tasks[0]
    web = python_web(env, task)
    _, state = reset(env, jax.random.key(0), task)
    first = tabular.optimum(env, task).actions[0]
    before = env.render_rgb(state, task)
    text = env.render_text(state, task).split("\n")
    assert text[:2] == ["step 0 of 10, page 0", "rewarded links found: 0, required: 4"]
    for action, line in enumerate(text[2:]):
        note = " (rewarded)" if (0, action) in web.rewarded else ""
        assert line == f"  link {action} to page {web.links[0][action]}{note}"
    _, state, *_ = env.step(jax.random.key(0), state, first, task)
    assert env.render_text(state, task).startswith(f"step 1 of 10, page {web.links[0][first]}\n")
    after = env.render_rgb(state, task)
    assert after.shape == before.shape == (520, 480, 3) and after.dtype == np.uint8
    assert (before != after).any()
    assert env.action_text(1, reset(env, jax.random.key(0), task)[1], task) == f"link 1 to page {web.links[0][1]}"


def test_large_webs_can_be_drawn():
    env, tasks = tabular.make(num_pages=200, num_actions=1, num_tasks=1)
    _, state = env.reset(jax.random.key(0), tasks[0])
    assert env.render_rgb(state, tasks[0]).std() > 0
