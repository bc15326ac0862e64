"""Training on rollouts that step back: against the search library, and against one epoch in NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax
from envs_jax.web import tabular
from jaxrl_agents import search
from jaxrl_agents.methods import expseek_rollouts as study
from jaxrl_agents.methods.expseek_rollouts import Config, Setting, make_web, strategy
from jaxrl_agents.methods.expseek_rollouts.training import tasks_of
from jaxrl_agents.search import rng

pytestmark = pytest.mark.usefixtures("quick_compilation")

WEB = make_web(3)
TASKS = tasks_of(32, 8)
KEYS = jax.random.split(jax.random.key(5), 32)
LOGITS = 1.5 * jax.random.normal(jax.random.key(1), (8, 20, 5))  # entropies on both sides of the thresholds below
generate = jax.jit(study.generate, static_argnames="config")


def unmasked_step(params, key, action, state):
    (_, env), tasks = params
    state, reward, terminated, truncated = jax.vmap(env.transition)(state, action, rng.word_of(key), tasks)
    return reward, jnp.where(terminated | truncated, 0.0, 1.0), state


def unmasked_policy(params, key, state):
    (table, env), tasks = params
    logits = table[jax.vmap(env.observe)(state, tasks)]
    return logits, jnp.zeros(len(logits)), state


@pytest.mark.parametrize("distance", ["uniform", "fixed"])
def test_rollouts_are_those_of_the_search_library(distance):
    free = distance == "fixed"
    setting = Setting(entropy_threshold=1.0, fixed_distance=distance != "uniform", required_pairs=2)
    mine = generate(LOGITS, KEYS, TASKS, WEB, setting, Config(num_candidates=2, free_steps=9 if free else 0))

    env, bank = envs_jax.make("TabularWeb-v0", seed=3, observation="task_index", required_pairs=2, time_limit=40)
    rows = jax.vmap(lambda i: bank[i])(TASKS)
    states = jax.vmap(env.initial)(jnp.zeros(32, jnp.uint32), rows)
    params = LOGITS.reshape(160, 5), env
    logits, value, _ = unmasked_policy((params, rows), KEYS, states)
    output = search.entropy_backtrack(
        params, KEYS, search.RootFnOutput(prior_logits=logits, value=value, embedding=states),
        search.Model(unmasked_step, unmasked_policy), tasks=rows, num_turns=10, num_rollouts=2, entropy_threshold=1.0,
        steps_back=3, max_retries=3, distance=distance, free_backtrack=free,
    )  # fmt: skip
    found = output.trajectories(1)
    np.testing.assert_array_equal(found.mask[:, 0], mine.mask)
    np.testing.assert_array_equal(jnp.where(mine.mask, found.actions[:, 0], 0), mine.actions)
    np.testing.assert_allclose(found.returns[:, 0], mine.returns, atol=1e-6)
    assert int(output.counts.generated.sum()) == int(mine.steps)
    assert 0 < float(mine.retried.mean()) < 0.5 and bool(mine.mask.all()) == free


# One epoch in NumPy.


def mixed(word, offset):
    """MurmurHash3's finaliser of word + offset · 2³²/φ."""
    word = (int(word) + offset * 0x9E3779B9) % 2**32
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) % 2**32
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) % 2**32
    return word ^ (word >> 16)


def softmax(logits, temperature=1.0):
    weights = np.exp((logits - logits.max()) / temperature)
    return weights / weights.sum()


def path_of(words, logits, links, setting, num_turns):
    """One rollout of a task: [(page, action, temperature)] and how many retries it took."""
    path, page, retries = [], 0, 0
    for word in words:
        probs, temperature = softmax(logits[page]), 1.0
        most = min(len(path), setting.steps_back)
        if -(probs * np.log(probs)).sum() > setting.entropy_threshold and most and retries < setting.max_retries:
            back = 1 + int((mixed(word, 3) >> 9) / 2**23 * most)
            page, path = path[-back][0], path[:-back]
            retries, temperature = retries + 1, setting.retry_temperature
        cumulative = np.cumsum(softmax(logits[page], temperature))
        action = int((cumulative[:-1] <= (mixed(word, 1) >> 9) / 2**23).sum())
        path.append((page, action, temperature))
        page = links[page, action]
    assert len(path) <= num_turns
    return path, retries


def reference_rollouts(setting, config):
    """[(path, retries, return, success)] of the kept candidates."""
    links, rewarded = np.asarray(WEB.links), np.asarray(WEB.rewarded)
    logits = np.asarray(LOGITS, np.float64)
    words = np.stack([rng.turn_words(KEYS, jnp.int32(t), config.num_candidates) for t in range(config.num_turns)])
    kept = []
    for i, task in enumerate(np.asarray(TASKS)):
        candidates = []
        for n in range(config.num_candidates):
            path, retries = path_of(words[:, n, i], logits[task], links, setting, config.num_turns)
            found = len({(page, action) for page, action, _ in path if rewarded[task, page, action]})
            success = found >= setting.required_pairs
            candidates.append((path, retries, 1.0 if success else 0.1 * found, success))
        kept.append(max(candidates, key=lambda candidate: candidate[2]))  # the first of the best
    return kept


def reference_loss(logits, kept, setting, config):
    """GRPO: mean over rollouts of the mean over their steps, k3 to the uniform policy."""
    losses = []
    for i, task in enumerate(np.asarray(TASKS)):
        group = [kept[j][2] for j in np.flatnonzero(np.asarray(TASKS) == task)]
        advantage = (kept[i][2] - np.mean(group)) / (np.std(group, ddof=1) + 1e-6)
        steps = []
        for page, action, temperature in kept[i][0]:
            prob = softmax(logits[task, page])[action]
            ratio = prob / softmax(np.asarray(LOGITS, np.float64)[task, page], temperature)[action]
            surrogate = min(ratio * advantage, np.clip(ratio, 1 - config.clip, 1 + config.clip) * advantage)
            log_ratio = np.log(0.2) - np.log(prob)
            steps.append(config.kl_coefficient * (np.exp(log_ratio) - 1 - log_ratio) - surrogate)
        losses.append(np.mean(steps))
    return np.mean(losses)


SETTING = Setting(entropy_threshold=0.9, required_pairs=2, learning_rate=7.0)
CONFIG = Config(num_candidates=2)


@pytest.fixture(scope="module")
def kept():
    return reference_rollouts(SETTING, CONFIG)


@pytest.fixture(scope="module")
def mine():
    return generate(LOGITS, KEYS, TASKS, WEB, SETTING, CONFIG)


def test_rollouts_against_numpy(kept, mine):
    for i, (path, retries, value, success) in enumerate(kept):
        length = len(path)
        assert int(mine.mask[i].sum()) == length and int(mine.retries[i]) == retries
        taken = zip(mine.pages[i].tolist(), mine.actions[i].tolist(), mine.retried[i].tolist(), strict=True)
        assert list(taken)[:length] == [(page, action, temperature > 1) for page, action, temperature in path]
        assert float(mine.returns[i]) == pytest.approx(value) and bool(mine.success[i]) == success
    assert len({len(path) for path, *_ in kept}) > 2 and 0 < np.mean([success for *_, success in kept]) < 1


def test_update_against_numpy(kept, mine):
    """The gradient by central differences, in every entry that a rollout reached and in some that none did."""
    new = jax.jit(study.update, static_argnames="config")(LOGITS, mine, TASKS, SETTING, CONFIG)
    gradient = (np.asarray(LOGITS) - np.asarray(new)) / SETTING.learning_rate
    logits, step = np.asarray(LOGITS, np.float64), 1e-5
    for task, page in [(0, 0), (0, 1), (3, 0), (5, 7), (7, kept[-1][0][-1][0])]:
        for action in range(5):
            sides = []
            for sign in (1, -1):
                moved = logits.copy()
                moved[task, page, action] += sign * step
                sides.append(reference_loss(moved, kept, SETTING, CONFIG))
            expected = (sides[0] - sides[1]) / (2 * step)
            assert gradient[task, page, action] == pytest.approx(expected, abs=3e-6)
    assert np.abs(gradient).max() > 1e-3


def test_metrics_against_numpy(kept, mine):
    found = jax.jit(study.measure, static_argnums=(1, 2))(mine, 20, 5)
    pairs = [[(page, action) for page, action, _ in path] for path, *_ in kept]
    assert float(found.coverage) == pytest.approx(len({pair for path in pairs for pair in path}) / 100)
    assert float(found.success) == pytest.approx(np.mean([success for *_, success in kept]))
    assert float(found.mean_return) == pytest.approx(np.mean([value for _, _, value, _ in kept]))
    assert float(found.length) == pytest.approx(np.mean([len(path) for path in pairs]))
    assert float(found.retries) == pytest.approx(np.mean([retries for _, retries, *_ in kept]))
    differing = {"pair": [], "action": []}
    for i in range(32):
        for j in range(i):
            for a, b in zip(pairs[i], pairs[j], strict=False):  # over the steps that both have
                differing["pair"].append(a != b)
                differing["action"].append(a[1] != b[1])
    assert float(found.pair_diversity) == pytest.approx(np.mean(differing["pair"]), abs=1e-5)
    assert float(found.action_diversity) == pytest.approx(np.mean(differing["action"]), abs=1e-5)


def test_diversity_of_whole_rollouts_is_the_environments():
    actions = jax.random.randint(jax.random.key(0), (32, 10), 0, 5)
    found = study.diversity(actions, jnp.ones((32, 10), bool), 5)
    assert float(found) == pytest.approx(float(tabular.diversity(actions, 5)), abs=1e-6)


def stacked(settings):
    return jax.tree.map(lambda *fields: np.stack(fields), *settings)


@pytest.fixture(scope="module")
def seeds():
    webs = jax.tree.map(lambda *leaves: np.stack(leaves), *(make_web(seed) for seed in range(3)))
    return webs, jax.vmap(jax.random.key)(np.arange(3))


TINY = Config(num_epochs=4, plain_every=2, num_candidates=2)
TWO = stacked([strategy(name, learning_rate=20.0, required_pairs=2)[0] for name in ("Standard", "ExpSeek")])


@pytest.fixture(scope="module")
def runs(seeds):
    return study.train_many(TWO, *seeds, TINY)


def test_a_run_does_not_depend_on_the_seeds_and_settings_beside_it(seeds, runs):
    one = jax.tree.map(lambda leaf: leaf[1:2], seeds)
    alone = study.train_many(jax.tree.map(lambda leaf: leaf[1:], TWO), *one, TINY)
    of_many = jax.tree.map(lambda leaf: leaf[1:, 1:2], runs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), alone, of_many)


def test_the_same_seed_gives_the_same_run(seeds, runs):
    jax.tree.map(np.testing.assert_array_equal, study.train_many(TWO, *seeds, TINY), runs)


def test_a_run_learns_and_shows_what_it_was_trained_on(runs):
    assert runs.trained_on.success.shape == (2, 3, 4) and runs.plain.success.shape == (2, 3, 2)
    assert bool((runs.steps == 640).all()) and runs.logits.shape == (2, 3, 8, 20, 5)
    assert float(jnp.abs(runs.logits).max()) > 0.2
    np.testing.assert_allclose(runs.entropy[:, :, 0], np.log(5), rtol=1e-5)
    assert bool((runs.trained_on.retries[0] == 0).all()) and float(runs.trained_on.retries[1, :, 0].min()) == 3
    assert bool((runs.plain.length == 10).all()) and float(runs.trained_on.length[1, :, 0].max()) < 10
    # The best of two returns more than one alone, of nearly the same policy.
    assert float(runs.trained_on.mean_return[0].mean()) > float(runs.plain.mean_return[0].mean())


def test_readings_change_what_they_say(kept, mine):
    update = jax.jit(study.update, static_argnames="config")
    usual = update(LOGITS, mine, TASKS, SETTING, CONFIG)
    for field in ("drawn_at_one", "one_group", "shared_policy"):
        other = update(LOGITS, mine, TASKS, dataclasses.replace(SETTING, **{field: True}), CONFIG)
        assert float(jnp.abs(other - usual).max()) > 1e-4, field
        if field == "shared_policy":
            change = np.asarray(other - LOGITS)
            np.testing.assert_allclose(change, np.broadcast_to(change[:1], change.shape), atol=1e-5)


def test_strategies():
    setting, config = strategy("ExpSeek+BoN", learning_rate=3.0, free_steps=9)
    assert (setting.entropy_threshold, setting.learning_rate) == (0.3, 3.0)
    assert (config.num_candidates, config.free_steps) == (4, 9)
    setting, config = strategy("Standard")
    assert setting.entropy_threshold == np.inf and (config.num_candidates, config.free_steps) == (1, 0)
    with pytest.raises(ValueError, match="strategy 'BoN' is unknown; there are: Standard, ExpSeek"):
        strategy("BoN")
    with pytest.raises(TypeError, match="rate"):
        strategy("Standard", rate=1.0)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="plain_every=10 does not divide num_epochs=15"):
        Config(num_epochs=15)
    for field, value in (("num_candidates", 0), ("num_turns", 0), ("num_epochs", -10), ("free_steps", -5)):
        with pytest.raises(ValueError, match=f"{field}={value} must be at least"):
            Config(**{field: value})
    for field, value in (("num_turns", 3.5), ("num_rollouts", 32.0), ("free_steps", True)):
        with pytest.raises(ValueError, match=f"{field}={value} must be an integer"):
            Config(**{field: value})
    with pytest.raises(ValueError, match="clip=-1.0 must be above 0"):
        Config(clip=-1.0)
    with pytest.raises(ValueError, match="kl_coefficient=nan must be a finite number"):
        Config(kl_coefficient=float("nan"))
    with pytest.raises(ValueError, match="num_rollouts=30 is not a multiple of the 8 tasks"):
        tasks_of(30, 8)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"required_pairs": 0}, "required_pairs=0 must be at least 1"),
        ({"required_pairs": 2.5}, "required_pairs=2.5 must be an integer"),
        ({"required_pairs": 60}, "required_pairs=60 must be at most 10"),
        ({"steps_back": np.array([1.5, 2.0])}, "must be an integer"),
        ({"steps_back": -1}, "steps_back=-1 must be at least 1"),
        ({"retry_temperature": 0}, "retry_temperature=0 must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be a finite number"),
        ({"entropy_threshold": float("nan")}, "entropy_threshold=nan must be a finite number"),
        ({"max_retries": jnp.int32(-1)}, "max_retries=-1 must be at least 0"),
        ({"learning_rate": np.array([1.0, -1.0])}, "must be at least 0"),
    ],
)
@pytest.mark.parametrize("make", [Setting, functools.partial(strategy, "ExpSeek")])
def test_settings_are_checked(make, fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


def test_what_says_nothing_of_a_strategy_is_refused():
    fields = {
        "entropy_threshold": 0.1, "free_steps": 9, "steps_back": 2, "max_retries": 7, "retry_temperature": 9.0,
        "fixed_distance": True, "drawn_at_one": True,
    }  # fmt: skip
    for name in ("Standard", "Best-of-N"):
        for field, value in fields.items():
            with pytest.raises(ValueError, match=f"{field}={value} has no effect on {name}, which does not backtrack"):
                strategy(name, **{field: value})
    assert strategy("ExpSeek", entropy_threshold=np.inf)[0].entropy_threshold == np.inf
