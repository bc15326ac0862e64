"""Wrong arguments of searches: one error each, which names the argument, the value and the way out."""

import math
import re

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

import envs_jax
from jaxrl_agents import search
from jaxrl_agents.search import arguments
from tests.jaxrl_agents.search.roots import started

pytestmark = pytest.mark.usefixtures("quick_compilation")

B, A = 4, 3
LOGITS = np.zeros((B, A), np.float32)
VALUE = np.zeros(B, np.float32)
STATES = np.zeros(B, np.int32)
KEY = jax.random.key(0)


def step(params, key, action, state):
    return action.astype(jnp.float32), jnp.ones(B), state + 1


def evaluate(params, key, state):
    return jnp.zeros((B, A)), jnp.zeros(B), state


def recurrent_fn(params, key, action, state):
    zeros = jnp.zeros(B)
    return mctx.RecurrentFnOutput(reward=zeros, discount=zeros, prior_logits=jnp.zeros((B, A)), value=zeros), state


def state_key(state):
    return state.astype(jnp.uint32)[:, None]


def proposal(action=STATES, length=STATES + 1, log_prob=VALUE, entropy=VALUE):
    return lambda params, key, state: search.Proposal(*map(jnp.asarray, (action, length, log_prob, entropy)))


def root(logits=LOGITS, value=VALUE, embedding=STATES):
    return search.RootFnOutput(prior_logits=logits, value=value, embedding=embedding)


MODEL = search.Model(step, evaluate, state_key)
OPTIONS = {
    search.best_of_n: {"num_turns": 2, "num_rollouts": 2},
    search.beam_search: {"num_turns": 2, "beam_width": 2, "num_candidates": 2},
    search.lookahead: {"num_turns": 2, "depth": 1, "num_candidates": 2},
    search.entropy_backtrack: {"num_turns": 2, "entropy_threshold": 0.5},
    search.mcts: {"num_simulations": 2},
}


ROOT = root()


def run(mode=search.best_of_n, *, root=ROOT, model=MODEL, key=KEY, **options):
    return mode(None, key, root, model, **OPTIONS[mode] | options)


def with_element(array, index, value):
    return np.asarray([value if i == index else x for i, x in enumerate(array.flat)], array.dtype).reshape(array.shape)


def refused(call, error, fragment):
    with pytest.raises(error, match=re.escape(fragment)) as caught:
        call()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("mode", OPTIONS, ids=lambda mode: mode.__name__)
@pytest.mark.parametrize(
    "wrong, error, fragment",
    [
        ({"root": root(logits=LOGITS.tolist())}, TypeError, "root.prior_logits must be an array of floats; got list"),
        ({"root": root(logits=LOGITS.astype(int))}, TypeError, "array of floats; got int64[4, 3]"),
        ({"root": root(value=VALUE.astype(np.int32))}, TypeError, "root.value must be an array of floats; got int"),
        ({"root": root(value=None)}, TypeError, "root.value must be an array of floats; got NoneType"),
        ({"root": root(value=VALUE[:, None])}, ValueError, "got shapes (4, 3) and (4, 1)"),
        ({"root": root(logits=with_element(LOGITS, 5, math.nan))}, ValueError, "root.prior_logits[1, 2] is nan"),
        ({"root": root(logits=with_element(LOGITS, 0, math.inf))}, ValueError, "root.prior_logits[0, 0] is inf"),
        ({"root": root(value=jnp.asarray(with_element(VALUE, 3, math.nan)))}, ValueError, "root.value[3] is nan"),
        ({"root": root(LOGITS[:0], VALUE[:0], VALUE[:0])}, ValueError, "has shape (0, 3); a search needs at least one"),
        ({"root": root(LOGITS[:, :0])}, ValueError, "has shape (4, 0); a search needs at least one root"),
        ({"root": root(embedding=3)}, TypeError, "root.embedding is a int; it must be an array"),
        ({"root": root(embedding={"x": VALUE[:2]})}, ValueError, "root.embedding['x'] has shape (2,)"),
        ({"root": (LOGITS, VALUE, VALUE)}, TypeError, "root must be a RootFnOutput"),
        ({"tasks": {"size": 3}}, TypeError, "tasks['size'] is a int; it must be an array"),
        ({"tasks": VALUE[:3]}, ValueError, "tasks has shape (3,); its first axis must be the 4 roots"),
        ({"key": 0}, TypeError, "rng_key must be a typed key"),
        ({"key": jax.random.PRNGKey(0)}, TypeError, "rng_key must be a typed key"),
        ({"key": jax.random.split(KEY, 3)}, ValueError, "rng_key has shape (3,)"),
        ({"invalid_actions": LOGITS.tolist()}, TypeError, "invalid_actions must be an array [B, A]; got list"),
        ({"invalid_actions": LOGITS[:, :2]}, ValueError, "invalid_actions has shape (4, 2)"),
        ({"invalid_actions": with_element(LOGITS, 4, math.nan)}, ValueError, "invalid_actions[1, 1] is nan; 0 allows"),
        ({"invalid_actions": LOGITS.astype(str)}, TypeError, "invalid_actions must be booleans or numbers; got <U"),
        ({"model": None}, TypeError, "model must be made by search.from_env(env) or search.Model(step, evaluate)"),
        ({"model": (step, evaluate)}, TypeError, "(mctx.RecurrentFnOutput, embedding); got tuple"),
        ({"model": search.Model}, TypeError, "got <class 'jaxrl_agents.search.model.Model'>"),
        ({"model": search.Model(step, 3)}, TypeError, "model.evaluate=3 is not a function"),
    ],
)  # fmt: skip
def test_what_every_mode_refuses(mode, wrong, error, fragment):
    refused(lambda: run(mode, **wrong), error, fragment)


@pytest.mark.parametrize(
    "mode, options, error, fragment",
    [
        (search.best_of_n, {"node_budget": -5}, ValueError, "node_budget=-5 is not in 0 … 2147483647; None means no"),
        (search.best_of_n, {"node_budget": 2**40}, ValueError, "node_budget=1099511627776 is not in 0 …"),
        (search.best_of_n, {"node_budget": 2**80}, ValueError, "node_budget must be integers [] or [4]"),
        (search.best_of_n, {"node_budget": np.full(B, 2**40)}, ValueError, "node_budget=1099511627776 is not in"),
        (search.best_of_n, {"node_budget": np.uint32(2**32 - 1)}, ValueError, "node_budget=4294967295 is not in"),
        (search.best_of_n, {"node_budget": jnp.uint32(2**31)}, ValueError, "node_budget=2147483648 is not in"),
        (search.best_of_n, {"node_budget": True}, ValueError, "node_budget must be integers [] or [4]; got bool[]"),
        (search.best_of_n, {"node_budget": "many"}, ValueError, "node_budget must be integers [] or [4]; got"),
        (search.best_of_n, {"node_budget": jnp.ones(B)}, ValueError, "node_budget must be integers"),
        (search.best_of_n, {"num_turns": "2"}, TypeError, "num_turns='2' is not an integer"),
        (search.best_of_n, {"num_rollouts": 2**31}, ValueError, "num_rollouts=2147483648 must be at most 2147483647"),
        (search.best_of_n, {"num_turns": jnp.ones(3, jnp.int32)}, TypeError, "num_turns=Array"),
        (search.best_of_n, {"max_turn_actions": None}, TypeError, "max_turn_actions=None is not an integer"),
        (search.best_of_n, {"temperature": -1.0}, ValueError, "temperature=-1.0 must be a finite number above 0"),
        (search.best_of_n, {"temperature": math.inf}, ValueError, "temperature=inf must be a finite number above 0"),
        (search.best_of_n, {"temperature": 1e-60}, ValueError, "temperature=1e-60 must be"),
        (search.best_of_n, {"temperature": 1e60}, ValueError, "temperature=1e+60 must be"),
        (search.best_of_n, {"temperature": None}, TypeError, "temperature=None is not a number"),
        (search.best_of_n, {"temperature": True}, TypeError, "temperature=True is not a number"),
        (search.best_of_n, {"temperature": 1j}, TypeError, "temperature=1j is not a number"),
        (search.best_of_n, {"weight_temperature": VALUE + 1}, ValueError, "weight_temperature must be a scalar"),
        (search.best_of_n, {"propose": 3}, TypeError, "propose=3 is not a function (params, key, embedding)"),
        (search.beam_search, {"propose": max, "candidates": "gumbel"}, ValueError, "candidates='gumbel' with propose"),
        (search.best_of_n, {"propose": max, "invalid_actions": jnp.zeros((B, A))}, ValueError, "mask them there"),
        (search.best_of_n, {"candidates": "enumerate"}, TypeError, "unexpected keyword argument 'candidates'"),
        (search.beam_search, {"beam_width": 2**20, "num_candidates": 2**20}, ValueError,
         "a turn of one root would generate 1,099,511,627,776 nodes; at most 2,147,483,647"),
        (search.lookahead, {"depth": 40, "continuation": "full"}, ValueError, "a turn of one root would generate"),
        (search.entropy_backtrack, {"num_rollouts": 2**30, "max_turn_actions": 2}, ValueError, "would generate"),
        (search.entropy_backtrack, {"entropy_threshold": None}, TypeError, "entropy_threshold=None is not a number"),
        (search.best_of_n, {"num_rollouts": 0}, ValueError, "num_rollouts=0 must be at least 1"),
        (search.beam_search, {"beam_width": 0}, ValueError, "beam_width=0 must be at least 1"),
        (search.beam_search, {"beam_width": 2.0}, TypeError, "beam_width=2.0 is not an integer"),
        (search.beam_search, {"num_turns": 0}, ValueError, "num_turns=0 must be at least 1"),
        (search.beam_search, {"num_turns": 1.5}, TypeError, "num_turns=1.5 is not an integer"),
        (search.beam_search, {"num_turns": 300_000_000}, ValueError, "num_turns=300,000,000 turns of 2 nodes for"),
        (search.beam_search, {"num_candidates": 0}, ValueError, "num_candidates=0 must be at least 1"),
        (search.beam_search, {"num_candidates": None}, ValueError, "can be left out only with candidates='enumerate'"),
        (search.beam_search, {"candidates": "enumerate"}, ValueError, "candidates='enumerate' takes all 3 actions"),
        (search.beam_search, {"candidates": "gumbel", "num_candidates": 4}, ValueError, "of 3 cannot be drawn"),
        (search.beam_search, {"candidates": "best"}, ValueError, "candidates='best' is not one of"),
        (search.beam_search, {"candidates": "gumbel", "max_turn_actions": 2}, ValueError, "max_turn_actions=2 with"),
        (search.beam_search, {"score": "value"}, ValueError, "score='value' is neither 'return' nor 'step'"),
        (search.beam_search, {"score": np.zeros(2)}, ValueError, "score=array([0., 0.]) is neither 'return' nor"),
        (search.beam_search, {"candidates": np.zeros(2)}, ValueError, "candidates=array([0., 0.]) is not one of"),
        (search.beam_search, {"temperature": 0.0}, ValueError, "temperature=0.0 must be a finite number above 0"),
        (search.beam_search, {"temperature": math.nan}, ValueError, "temperature=nan is not a number"),
        (search.beam_search, {"temperature": "hot"}, TypeError, "temperature='hot' is not a number"),
        (search.beam_search, {"deduplicate": True}, ValueError, "deduplicate=True needs state keys"),
        (search.beam_search, {"deduplicate": 1}, TypeError, "deduplicate=1 is neither True nor False"),
        (search.best_of_n, {"temperature": 1e-40}, ValueError, "temperature=1e-40 must be a finite number above 0"),
        (search.best_of_n, {"propose": max, "temperature": 0.5}, ValueError, "temperature=0.5 with propose"),
        (search.lookahead, {"bootstrap": 0}, TypeError, "bootstrap=0 is neither True nor False"),
        (search.lookahead, {"clairvoyant": "no"}, TypeError, "clairvoyant='no' is neither True nor False"),
        (search.lookahead, {"depth": 0}, ValueError, "depth=0 must be at least 1"),
        (search.lookahead, {"continuation": "none"}, ValueError, "continuation='none' is not one of policy, full"),
        (search.entropy_backtrack, {"entropy_threshold": math.nan}, ValueError, "entropy_threshold=nan is not"),
        (search.entropy_backtrack, {"entropy_threshold": 10**400}, ValueError,
         "entropy_threshold is an integer of 1329 bits, beyond all floats but math.inf"),
        (search.entropy_backtrack, {"max_retries": 0}, ValueError, "max_retries=0 must be at least 1"),
        (search.entropy_backtrack, {"steps_back": 0}, ValueError, "steps_back=0 must be at least 1"),
        (search.entropy_backtrack, {"distance": "far"}, ValueError, "distance='far' is not one of uniform, fixed"),
        (search.entropy_backtrack, {"retry_temperature": -1.0}, ValueError, "retry_temperature=-1.0 must be"),
        (search.entropy_backtrack, {"free_backtrack": 1}, TypeError, "free_backtrack=1 is neither True nor False"),
        (search.entropy_backtrack, {"clairvoyant": 0}, TypeError, "clairvoyant=0 is neither True nor False"),
        (search.entropy_backtrack, {"propose": 3}, TypeError, "propose=3 is not a function"),
        (search.entropy_backtrack, {"propose": max, "retry_propose": 3}, TypeError, "retry_propose=3 is not a func"),
        (search.entropy_backtrack, {"retry_propose": max}, ValueError, "retry_propose without propose: pass both"),
        (search.entropy_backtrack, {"propose": max, "retry_temperature": 2.0}, ValueError,
         "retry_temperature=2.0 with propose: give the function that draws retried turns, retry_propose"),
        (search.entropy_backtrack, {"propose": max, "invalid_actions": LOGITS}, ValueError, "mask them there"),
        (search.mcts, {"num_simulations": 0}, ValueError, "num_simulations=0 must be at least 1"),
        (search.mcts, {"policy": "uct"}, ValueError, "policy='uct' is neither 'gumbel_muzero' nor 'muzero'"),
        (search.mcts, {"max_depth": 0}, ValueError, "max_depth=0 must be at least 1"),
        (search.mcts, {"max_turn_actions": 2}, ValueError, "mcts cannot search turns of several actions"),
        (search.mcts, {"propose": proposal()}, ValueError, "use beam_search or lookahead"),
        (search.mcts, {"node_budget": 3}, TypeError, "no argument 'node_budget'; what it passes to mctx is qtransform"),
        (search.mcts, {"node_budget": 3}, TypeError, "are at most num_simulations"),
        (search.mcts, {"temperature": 1.0}, TypeError, "mcts(policy='gumbel_muzero') has no argument 'temperature'"),
        (search.mcts, {"policy": "muzero", "gumbel_scale": 1.0}, TypeError, "dirichlet_alpha, pb_c_init, pb_c_base"),
        (search.mcts, {"max_turn_actions": True}, TypeError, "max_turn_actions=True is a boolean"),
        (search.mcts, {"gumbel_scale": "x"}, TypeError, "gumbel_scale='x' is not a number"),
        (search.mcts, {"gumbel_scale": [1.0]}, TypeError, "gumbel_scale=[1.0] is neither a number nor an array"),
        (search.mcts, {"gumbel_scale": -1.0}, ValueError, "gumbel_scale=-1 is not in [0, inf]"),
        (search.mcts, {"policy": "muzero", "dirichlet_fraction": 1.5}, ValueError,
         "dirichlet_fraction=1.5 is not in [0, 1]"),
        (search.mcts, {"policy": "muzero", "dirichlet_alpha": 0.0}, ValueError, "dirichlet_alpha=0 is not in"),
        (search.mcts, {"qtransform": [1]}, TypeError, "qtransform=[1] is not a function"),
        (search.mcts, {"max_num_considered_actions": 0}, ValueError, "max_num_considered_actions=0 must be at least 1"),
    ],
)  # fmt: skip
def test_options_that_are_refused(mode, options, error, fragment):
    def untouchable(*args):
        raise AssertionError("traced before the arguments were checked")

    refused(lambda: run(mode, model=search.Model(untouchable, untouchable), **options), error, fragment)
    # `estimate_bytes` refuses the same options, but for what the model decides, and a name that the mode has not
    if not any(part in fragment for part in ("needs state keys", "unexpected keyword")):
        refused(lambda: search.estimate_bytes(mode, ROOT, **OPTIONS[mode] | options), error, fragment)


def rooms():
    return search.from_env(envs_jax.make("Sokoban-RAGEN-v0", num_levels=2)[0])


@pytest.fixture(scope="module")
def lake():
    """(env, tasks, model, root) of four lakes."""
    env, bank = envs_jax.make("FrozenLake-v0")
    tasks, model = bank[np.zeros(B, int)], search.from_env(env)
    return env, tasks, model, started(env, model, tasks.instances)


@pytest.mark.parametrize(
    "call, error, fragment",
    [
        (lambda env, tasks, model, at: run(model=env), TypeError,
         "model is an environment, FrozenLake; wrap it: search.from_env(env)"),
        (lambda env, tasks, model, at: search.from_env((env, tasks)), TypeError,
         "env must be an Environment, as in env, tasks = envs_jax.make(id); got tuple"),
        (lambda env, tasks, model, at: search.from_env(type(env)), TypeError, "got the class FrozenLake"),
        (lambda env, tasks, model, at: search.from_env(env, policy=3), TypeError, "policy=3 is not a function"),
        (lambda env, tasks, model, at: search.from_env(env, discount=math.nan), ValueError, "discount=nan is not in"),
        (lambda env, tasks, model, at: search.from_env(env, discount=1.5), ValueError, "discount=1.5 is not in (0, 1]"),
        (lambda env, tasks, model, at: search.from_env(env, discount="1"), TypeError, "discount='1' is not a number"),
        (lambda env, tasks, model, at: search.from_env(env, discount=True), TypeError, "discount=True is not a number"),
        (lambda env, tasks, model, at: search.from_env(env, use_action_mask=1), TypeError,
         "use_action_mask=1 is neither True nor False"),
        (lambda env, tasks, model, at: run(model=model), ValueError, "tasks is None; a model made by from_env needs"),
        (lambda env, tasks, model, at: run(model=model, tasks=VALUE), TypeError, "task must be a FrozenLakeTask"),
        (lambda env, tasks, model, at: run(model=rooms(), tasks=tasks), TypeError,
         "tasks holds FrozenLakeTask; Sokoban plays SokobanTask"),
        (lambda env, tasks, model, at: run(model=model, tasks=tasks), TypeError,
         "root.embedding must be states of FrozenLake, as jax.vmap(env.reset)(keys, tasks) returns them; got ndarray"),
        (lambda env, tasks, model, at: run(model=model, tasks=tasks, root=at.replace(prior_logits=LOGITS)), ValueError,
         "root.prior_logits has 3 actions; FrozenLake has 4"),
        (lambda env, tasks, model, at: run(model=model, tasks=tasks[np.zeros(3, int)], root=at), ValueError,
         "its first axis must be the 4 roots"),
        (lambda env, tasks, model, at: model.root(None, at.embedding, None), ValueError, "tasks is None"),
        (lambda env, tasks, model, at: model.root(None, VALUE, tasks), TypeError, "states must be states of Frozen"),
        (lambda env, tasks, model, at: model.root(None, jax.tree.map(lambda x: x[0], at.embedding), tasks), ValueError,
         "states must be a batch of states, [B, …]; got steps of shape ()"),
        (lambda env, tasks, model, at: model.root(None, jax.tree.map(lambda x: x[:3], at.embedding), tasks), ValueError,
         "its first axis must be the 3 roots"),
        (lambda env, tasks, model, at: search.from_env(env, lambda params, seen: (jnp.zeros((B, 4)), jnp.zeros((B, 1))))
         .root(None, at.embedding, tasks), ValueError,
         "policy must return value as floats [4]; got float32[4, 1]; drop its last axis: [..., 0]"),
        (lambda env, tasks, model, at: search.from_env(env, lambda params, seen: jnp.zeros((B, 4)))
         .root(None, at.embedding, tasks), ValueError, "policy must return (logits, value); got float32[4, 4]"),
    ],
)  # fmt: skip
def test_models_of_environments(lake, call, error, fragment):
    refused(lambda: call(*lake), error, fragment)


def rewarding(reward=VALUE, discount=VALUE, then=lambda state: state):
    return search.Model(lambda params, key, action, state: (reward, discount, then(state)), evaluate, state_key)


def judging(logits=LOGITS, value=VALUE, then=lambda state: state):
    return search.Model(step, lambda params, key, state: (logits, value, then(state)), state_key)


def keyed(key):
    return {"mode": search.beam_search, "model": search.Model(step, evaluate, key), "deduplicate": True}


@pytest.mark.parametrize(
    "options, fragment",
    [
        ({"model": rewarding(reward=LOGITS)}, "model.step must return reward as numbers [4]; got float32[4, 3]"),
        ({"model": rewarding(discount=1.0)}, "model.step must return discount as numbers [4]; got float"),
        ({"model": rewarding(then=lambda state: state[:, None])},
         "model.step must return embedding as it gets it, int32[4]; got int32[4, 1]"),
        ({"model": rewarding(then=lambda state: {"x": state})}, "an embedding like the one that it gets"),
        ({"model": search.Model(lambda *args: VALUE, evaluate)},
         "model.step must return (reward, discount, embedding); got float32[4]"),
        ({"model": judging(logits=LOGITS[:, :2])}, "model.evaluate must return logits as floats [4, 3]; got"),
        ({"model": judging(logits=LOGITS.astype(np.int32))}, "logits as floats [4, 3]; got int32[4, 3]"),
        ({"model": judging(value=VALUE[:, None])}, "got float32[4, 1]; drop its last axis: [..., 0]"),
        ({"model": judging(then=lambda state: state + 0.5)}, "as it gets it, int32[4]; got float32[4]"),
        ({"model": search.Model(step, lambda *args: (LOGITS, VALUE))}, "logits, value, embedding); got 2 values"),
        (keyed(lambda state: state.astype(jnp.uint32)),
         "model.state_key must return uint32[4, K] with K at least 1; got uint32[4]; add an axis: key[:, None]"),
        (keyed(lambda state: state[:, None]), "model.state_key must return uint32[4, K] with K at least 1; got"),
        ({"model": lambda *args: 1.0}, "recurrent_fn must return (mctx.RecurrentFnOutput, embedding); got float"),
        ({"model": lambda *args: (VALUE, VALUE)}, "the first is float32[4]"),
        ({"mode": search.mcts, "model": judging(logits=LOGITS[:, :2])}, "model.evaluate must return logits as"),
        ({"mode": search.mcts, "model": lambda *args: recurrent_fn(*args)[:1]}, "RecurrentFnOutput, embedding); got 1"),
        ({"mode": search.mcts, "root": root(logits=LOGITS[:, :2]), "model": recurrent_fn},
         "recurrent_fn must return prior_logits as floats [4, 2]; got float32[4, 3]"),
        ({"score": lambda params, candidate: jnp.float32(1)}, "score must return scores as numbers [4]; got"),
        ({"score": lambda params, candidate: candidate.total[:, None]}, "got float32[4, 1]; drop its last axis"),
        ({"propose": lambda *args: jnp.zeros(B)}, "propose must return (action, length, log_prob, entropy); got"),
        ({"propose": proposal(action=VALUE)}, "action (max_turn_actions=1) as integers [4]; got float32[4]"),
        ({"propose": proposal(action=np.zeros((B, 3), int)), "max_turn_actions": 2},
         "propose must return action (max_turn_actions=2) as integers [4, 2]; got int32[4, 3]"),
        ({"propose": proposal(length=np.ones(2, int))}, "must return length as integers [4]; got int32[2]"),
        ({"propose": proposal(log_prob=LOGITS)}, "propose must return log_prob as floats [4]; got float32[4, 3]"),
    ],
)  # fmt: skip
def test_functions_that_return_something_else(options, fragment):
    refused(lambda: run(**options), ValueError, fragment)


@pytest.mark.parametrize(
    "call, error, fragment",
    [
        (lambda: search.execute(None, KEY, root(), MODEL, [[0]] * B), ValueError,
         "actions must be integers [4, T]; got list"),
        (lambda: search.execute(None, KEY, root(), MODEL, LOGITS), ValueError, "got float32[4, 3]"),
        (lambda: search.execute(None, KEY, root(), MODEL, np.zeros((3, 2), int)), ValueError, "got int64[3, 2]"),
        (lambda: search.execute(None, KEY, root(), MODEL, np.zeros(B, int)), ValueError, "got int64[4]"),
        (lambda: search.execute(None, KEY, root(), MODEL, np.full((B, 2), 3)), ValueError,
         "actions holds 3; actions are 0 … 2, and −1 takes no step"),
        (lambda: search.execute(None, KEY, root(), MODEL, jnp.full((B, 2), -2)), ValueError, "actions holds -2"),
        (lambda: search.execute(None, KEY, None, MODEL, jnp.zeros((B, 2), int)), TypeError, "root must be a Root"),
        (lambda: search.next_root(None, KEY, root(), MODEL, [0] * B), ValueError,
         "action must be integers [4] or [4, L]; got list"),
        (lambda: search.next_root(None, KEY, root(), MODEL, np.zeros(3, int)), ValueError, "got int64[3]"),
        (lambda: search.next_root(None, KEY, root(), MODEL, np.full(B, 9)), ValueError, "action holds 9"),
        (lambda: search.chunked(3, None, KEY, root(), MODEL, chunk_size=2), TypeError, "mode=3 is not a function"),
        (lambda: chunked(chunk_size=0), ValueError, "chunk_size=0 must be at least 1"),
        (lambda: chunked(chunk_size=-2), ValueError, "chunk_size=-2 must be at least 1"),
        (lambda: chunked(chunk_size=True), TypeError, "chunk_size=True is a boolean"),
        (lambda: chunked(node_budget=np.zeros(3, int)), ValueError, "node_budget must be integers [] or [4]; got"),
        (lambda: chunked(num_rolouts=3), TypeError, "unexpected keyword argument 'num_rolouts'"),
        (lambda: estimate(num_rolouts=3), TypeError, "best_of_n has no option 'num_rolouts'; it has num_turns, n"),
        (lambda: search.estimate_bytes(search.beam_search, root(), beam_width=2), TypeError,
         "beam_search needs num_turns"),
        (lambda: estimate(num_rollouts=0), ValueError, "num_rollouts=0 must be at least 1"),
        (lambda: search.estimate_bytes(search.execute, root()), ValueError, "mode must be one of best_of_n, beam_"),
        (lambda: search.estimate_bytes(search.mcts, root()), TypeError, "mcts needs num_simulations"),
        (lambda: search.estimate_bytes(search.beam_search, root(), num_turns=2, beam_widht=2), TypeError,
         "beam_search has no option 'beam_widht'; it has num_turns, beam_width"),
        (lambda: search.estimate_bytes(search.mcts, root(), num_simulations=3, node_budget=3), TypeError,
         "no argument 'node_budget'"),
        (lambda: estimate(root=LOGITS), TypeError, "root must be a RootFnOutput"),
    ],
)  # fmt: skip
def test_other_functions(call, error, fragment):
    refused(call, error, fragment)


def chunked(chunk_size=2, **options):
    return search.chunked(
        search.best_of_n, None, KEY, root(), MODEL, chunk_size=chunk_size, **OPTIONS[search.best_of_n] | options
    )


def estimate(root=ROOT, **options):
    return search.estimate_bytes(search.best_of_n, root, **OPTIONS[search.best_of_n] | options)


def test_tracers_are_left_alone():
    """In a caller's program nothing is known but shapes and dtypes, which are checked."""

    @jax.jit
    def traced(logits, budget, temperature, actions):
        output = run(root=root(logits=logits), node_budget=budget, temperature=temperature)
        played = search.execute(None, KEY, root(logits=logits), MODEL, actions)
        return output.counts.generated, played.returns

    generated, returns = traced(LOGITS, np.uint32(2**32 - 1), 1, np.full((B, 2), 1, np.int8))
    np.testing.assert_array_equal(generated, 4)
    np.testing.assert_array_equal(returns, 2)
    jax.eval_shape(traced, LOGITS * math.nan, np.int32(-5), math.nan, np.full((B, 2), 99))
    for wrong, error, fragment in (
        ({"node_budget": VALUE}, ValueError, "node_budget must be integers"),
        ({"temperature": VALUE}, ValueError, "temperature must be a scalar; got shape (4,)"),
        ({"temperature": True}, TypeError, "is not a number"),
        ({"root": root(logits=LOGITS.astype(np.int32))}, TypeError, "must be an array of floats; got int32[4, 3]"),
    ):
        refused(lambda wrong=wrong: jax.eval_shape(lambda given: run(**given), wrong), error, fragment)


def test_a_budget_of_nothing_plays_nothing():
    output = run(node_budget=np.asarray([0, 0, 5, 5]))
    np.testing.assert_array_equal(output.action >= 0, [False, False, True, True])
    np.testing.assert_array_equal(output.counts.generated, [0, 0, 4, 4])


def test_checks_compute_nothing_on_devices():
    """What arguments become without tracers is NumPy's: an operation on a device costs more than all checks."""
    assert isinstance(arguments.node_budget(None, B), np.int32)
    assert isinstance(arguments.node_budget(7, B), np.ndarray)
    assert isinstance(arguments.finite("temperature", 0.5, low=0.0), np.float32)
    given = root()
    assert arguments.checked_root(given) is given


def playing(logits):
    """A model whose nodes all have these logits, and values from them."""
    return search.Model(step, lambda params, key, state: (logits, logits[:, 0], state), state_key)


@pytest.mark.parametrize("mode", [search.best_of_n, search.mcts], ids=lambda mode: mode.__name__)
def test_narrow_floats_choose_the_same(mode):
    """Networks that compute in 16 bits: their logits, masks (the dtype's lowest number) and values count in float32."""
    logits = np.random.default_rng(0).integers(-8, 8, (B, A)).astype(np.float32)
    illegal = np.eye(B, A, dtype=bool)
    floor = lambda lowest: np.where(illegal, np.float32(lowest), logits)
    wide = run(mode, root=root(floor(-math.inf)), model=playing(floor(-1e9)))
    for dtype in (jnp.bfloat16, jnp.float16):
        narrow = floor(jnp.finfo(dtype).min).astype(dtype)
        low = run(mode, root=root(narrow, np.zeros(B, dtype)), model=playing(narrow))
        jax.tree.map(np.testing.assert_array_equal, (low.action, low.counts), (wide.action, wide.counts))
        assert low.value.dtype == low.action_weights.dtype == jnp.float32
        broken = root(with_element(narrow, 2 * A + 1, math.nan))
        refused(lambda broken=broken: run(root=broken), ValueError, "root.prior_logits[2, 1] is nan")


@pytest.mark.parametrize("mode", [mode for mode in OPTIONS if mode is not search.mcts], ids=lambda mode: mode.__name__)
def test_scores_of_minus_infinity_leave_no_path(mode):
    """A score of −inf, or NaN, means that a node is no candidate; where nothing else is left nothing is chosen."""
    hopeless = np.arange(B) % 2 == 0
    nothing = np.where(np.arange(B) % 4 == 0, np.float32(-np.inf), np.float32(np.nan))
    score = lambda params, candidate: jnp.where(hopeless, nothing, candidate.total)
    output = run(mode, score=score)
    np.testing.assert_array_equal(output.action == -1, hopeless)
    np.testing.assert_array_equal(output.value == -math.inf, hopeless)
    np.testing.assert_allclose(output.action_weights.sum(axis=1), np.where(hopeless, 0, 1), rtol=1e-6)
    np.testing.assert_array_equal(output.trajectories(1).mask.any(axis=(1, 2)), ~hopeless)


@pytest.mark.parametrize("mode", [mode for mode in OPTIONS if mode is not search.mcts], ids=lambda mode: mode.__name__)
def test_a_reward_of_nan_leaves_no_path(mode):
    """Where a model returns NaN, or a value of NaN is bootstrapped, that candidate is none; the others go on."""

    def step(params, key, action, state):
        return jnp.where(action == 0, jnp.nan, action.astype(jnp.float32)), jnp.ones(len(state)), state + action

    def evaluate(params, key, state):
        return jnp.zeros((len(state), A)), jnp.where(state % 5 == 4, jnp.nan, 0.0), state

    many = 32
    root = search.RootFnOutput(
        prior_logits=np.zeros((many, A), np.float32), value=np.zeros(many, np.float32), embedding=np.zeros(many, int)
    )
    output = run(mode, root=root, model=search.Model(step, evaluate))
    found, value = jax.device_get((output.trajectories(1), output.value))
    exists = value > -math.inf
    assert exists.any() and np.isfinite(value[exists]).all() and np.isfinite(output.action_weights).all()
    np.testing.assert_array_equal(output.action > 0, exists)
    np.testing.assert_array_equal(output.action == -1, ~exists)
    assert not np.any(found.actions == 0) and np.isfinite(found.returns).all()


def test_the_lowest_temperature_takes_the_likeliest_action():
    logits = np.random.default_rng(0).normal(size=(B, A)).astype(np.float32)
    lowest = np.finfo(np.float32).tiny
    output = run(root=root(logits), model=playing(jnp.asarray(logits)), temperature=lowest, weight_temperature=lowest)
    np.testing.assert_array_equal(output.action, logits.argmax(axis=1))
    np.testing.assert_array_equal(output.trajectories(1).log_probs, 0)


@pytest.mark.parametrize("mode", [search.best_of_n, search.mcts], ids=lambda mode: mode.__name__)
def test_outputs_are_constants_to_gradients(mode):
    """A loss may hold a search: what it finds has no gradient, in the model's parameters or in those of the root."""

    def found(params):
        step = lambda p, key, action, state: (p * (1.0 + action), jnp.ones(B), state)
        evaluate = lambda p, key, state: (p * jnp.ones((B, A)), p * jnp.ones(B), state)
        options = OPTIONS[mode] | ({"temperature": params} if mode is search.best_of_n else {})
        at = root(LOGITS * params, VALUE + params)
        return mode(params, KEY, at, search.Model(step, evaluate), **options).value.sum()

    product, slope = jax.jit(jax.value_and_grad(lambda params: params * found(params)))(2.0)
    assert slope == product / 2


def test_a_chunk_as_large_as_wanted():
    whole, chunks = (chunked(chunk_size=size) for size in (B, 10**6))
    jax.tree.map(np.testing.assert_array_equal, whole, chunks)
    refused(lambda: whole.trajectories(3), ValueError, "k=3; this search has 2 paths")
    refused(lambda: whole.trajectories(0), ValueError, "k=0 must be at least 1")
    refused(lambda: whole.trajectories(1.0), TypeError, "k=1.0 is not an integer")
