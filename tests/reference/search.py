"""The searches in plain Python on tabular decision processes, one root at a time, independent of the package.

Only the random words are the package's contract: candidate i at turn t uses word i of `bits(fold_in(key, t))`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

MASK = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class Process:
    """S states, A actions; the outcome of an action is fixed, rewards and discounts are exact in float32."""

    next: np.ndarray  # int[S, A]
    reward: np.ndarray  # float[S, A]
    discount: np.ndarray  # float[S, A]; 0 ends the episode
    logits: np.ndarray  # float32[S, A]; −inf marks an illegal action
    value: np.ndarray  # float[S]

    @property
    def num_actions(self) -> int:
        return self.next.shape[1]

    def legal(self, state: int) -> list[int]:
        return [a for a in range(self.num_actions) if self.logits[state, a] > -math.inf]


def random_process(
    seed: int, *, states: int = 30, actions: int = 3, ends: float = 0.15, illegal: float = 0.2
) -> Process:
    """A random process with ties, terminals, negative rewards, illegal actions and a few dead ends."""
    rng = np.random.default_rng(seed)
    shape = (states, actions)
    logits = rng.normal(size=shape).astype(np.float32)
    logits[rng.random(shape) < illegal] = -np.inf
    logits[0] = np.where(np.isfinite(logits[0]), logits[0], 0)
    return Process(
        rng.integers(0, states, shape),
        rng.integers(-2, 4, shape).astype(np.float32),
        rng.choice([0.0, 0.5, 1.0], p=[ends, 0.3, 0.7 - ends], size=shape).astype(np.float32),
        logits,
        rng.integers(-3, 4, states).astype(np.float32),
    )


@dataclasses.dataclass(frozen=True)
class Node:
    state: int
    total: float = 0.0
    scale: float = 1.0
    score: float = 0.0
    path: tuple[int, ...] = ()
    rewards: tuple[float, ...] = ()

    def ended(self, process: Process) -> bool:
        return self.scale == 0 or not process.legal(self.state)

    def child(self, process: Process, action: int) -> Node:
        reward = float(process.reward[self.state, action])
        return Node(
            int(process.next[self.state, action]),
            self.total + self.scale * reward,
            self.scale * float(process.discount[self.state, action]),
            self.total + self.scale * reward,
            (*self.path, action),
            (*self.rewards, reward),
        )


def words(key: jax.Array, turn: int, number: int) -> list[int]:
    drawn = max(32, 1 << int(number - 1).bit_length())  # few programs; how many are drawn changes none of them
    return np.asarray(_words(key, np.uint32(turn), drawn))[:number].tolist()


@partial(jax.jit, static_argnums=2)
def _words(key: jax.Array, turn: jax.Array, number: int) -> jax.Array:
    return jax.random.bits(jax.random.fold_in(key, turn), (number,), np.uint32)


def mixed(word: int, offset: int) -> int:
    """MurmurHash3's finaliser of `word + 0x9E3779B9 · offset`."""
    word = (word + 0x9E3779B9 * offset) & MASK
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & MASK
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) & MASK
    return word ^ (word >> 16)


def probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    return weights / weights.sum()


def sampled(logits: np.ndarray, temperature: float, word: int) -> int:
    """The action whose share of [0, 1) holds the upper 23 bits of the hash of `word`."""
    if len(logits) > 16:  # the largest sum of log-probability and Gumbel noise
        uniforms = np.array([(mixed(mixed(word, 1), 1 + a) >> 9) / 2**23 + 2**-24 for a in range(len(logits))])
        with np.errstate(divide="ignore"):
            return int(np.argmax(np.log(probabilities(logits, temperature)) - np.log(-np.log(uniforms))))
    uniform = (mixed(word, 1) >> 9) / 2**23
    cumulative = np.cumsum(probabilities(logits, temperature))
    return int(np.argmax(cumulative > uniform * cumulative[-1]))


def entropy(logits: np.ndarray, temperature: float) -> float:
    probs = probabilities(logits, temperature)
    return -sum(p * math.log(p) for p in probs if p > 0)


def rollout(
    process: Process, key: jax.Array, start: int, num_turns: int, index: int = 0, temperature: float = 1.0
) -> Node:
    """One sampled rollout; it draws word `index` of each turn."""
    node = Node(start)
    for turn in range(num_turns):
        if node.ended(process):
            break
        word = words(key, turn, index + 1)[index]
        node = node.child(process, sampled(process.logits[node.state], temperature, word))
    return node


def beam(
    process: Process,
    key: jax.Array,
    start: int,
    num_turns: int,
    width: int,
    *,
    num_candidates: int | None = None,
    score: str | Callable[[Node, Node, int, int], float] = "return",
    deduplicate: bool = False,
    turn_actions: int = 1,
    budget: float = math.inf,
) -> tuple[list[Node], dict[str, int]]:
    """Beam search; `num_candidates` None enumerates the actions, a number samples so many.

    `score` may be a function of (parent, child, action, turn); NaN is no candidate.
    """
    frontier = [Node(start)]
    counts = {"generated": 0, "merged": 0, "dead_ends": 0}
    for turn in range(num_turns):
        live = sum(not node.ended(process) for node in frontier)
        number = num_candidates or process.num_actions
        if not live or counts["generated"] + live * number * turn_actions > budget:
            break
        drawn = words(key, turn, width * number)
        candidates: list[tuple[float, int, Node]] = []
        for slot, node in enumerate(frontier):
            if node.ended(process):
                candidates.append((-node.score, slot * number, node))
                continue
            for index in range(number):
                action = index
                if num_candidates:
                    action = sampled(process.logits[node.state], 1.0, drawn[slot * number + index])
                if action not in process.legal(node.state):
                    continue
                child = node.child(process, action)
                for later in range(1, turn_actions):
                    if child.ended(process):
                        break
                    own = mixed(drawn[slot * number + index], 16 + later)
                    child = child.child(process, sampled(process.logits[child.state], 1.0, own))
                if score == "step":
                    child = dataclasses.replace(child, score=child.rewards[-1])
                elif callable(score):
                    child = dataclasses.replace(child, score=score(node, child, action, turn))
                counts["generated"] += len(child.path) - len(node.path)
                if not math.isnan(child.score):
                    candidates.append((-child.score, slot * number + index, child))
        candidates.sort(key=lambda candidate: candidate[:2])
        if deduplicate:
            seen: set[int] = set()
            kept = []
            for candidate in candidates:
                if candidate[2].state in seen:
                    counts["merged"] += 1
                    continue
                seen.add(candidate[2].state)
                kept.append(candidate)
            candidates = kept
        before = {id(node) for node in frontier}
        frontier = [node for _, _, node in candidates[:width]]
        counts["dead_ends"] += sum(
            id(node) not in before and node.scale != 0 and not process.legal(node.state) for node in frontier
        )
    return frontier, counts


def best_return(process: Process, node: Node, depth: int, bootstrap: bool) -> float:
    """The largest return of any sequence of `depth` actions, by enumeration."""
    if node.ended(process):
        return node.total
    best = -math.inf
    for actions in itertools.product(range(process.num_actions), repeat=depth):
        end = node
        for action in actions:
            if end.ended(process):
                break
            if action not in process.legal(end.state):
                end = None
                break
            end = end.child(process, action)
        if end is not None:
            tail = end.scale * float(process.value[end.state]) if bootstrap and not end.ended(process) else 0.0
            best = max(best, end.total + tail)
    return best


def lookahead(process: Process, start: int, num_turns: int, depth: int, bootstrap: bool) -> Node:
    """Commits the action with the best return over `depth` actions, the lowest of equals."""
    node = Node(start)
    for _ in range(num_turns):
        if node.ended(process):
            break
        legal = process.legal(node.state)
        prospects = []
        for action in legal:
            child = node.child(process, action)
            if depth > 1:
                prospects.append(best_return(process, child, depth - 1, bootstrap))
            else:
                live = bootstrap and not child.ended(process)
                prospects.append(child.total + (child.scale * float(process.value[child.state]) if live else 0.0))
        node = node.child(process, legal[int(np.argmax(prospects))])
    return node


def prospect(
    process: Process, node: Node, word: int, levels: int, number: int, bootstrap: bool, counts: dict[str, int]
) -> float:
    """The best return of `number` sampled candidates a level, `levels` deep; `word` is that of the node."""
    if node.ended(process):
        return node.total
    if levels == 0:
        return node.total + (node.scale * float(process.value[node.state]) if bootstrap else 0.0)
    best = -math.inf
    for index in range(1, number + 1):
        below = mixed(word, (1 << 17) + index)
        child = node.child(process, sampled(process.logits[node.state], 1.0, below))
        counts["generated"] += 1
        best = max(best, prospect(process, child, below, levels - 1, number, bootstrap, counts))
    return best


def committed(
    process: Process,
    key: jax.Array,
    num_turns: int,
    *,
    depth: int,
    num_candidates: int,
    width: int = 1,
    continuation: str = "policy",
    bootstrap: bool = True,
) -> tuple[list[list[tuple[int, int, Node]]], dict[str, int]]:
    """Lookahead with sampled candidates: for each turn the (parent, action, node) of every slot; action -1: a copy."""
    frontier, turns, counts = [Node(0)], [], {"generated": 0}
    levels, number = (depth, 1) if continuation == "policy" else (depth - 1, num_candidates)
    for turn in range(num_turns):
        drawn = words(key, turn, width * num_candidates)
        candidates: list[tuple[float, int, int, Node]] = []
        for slot, node in enumerate(frontier):
            first = slot * num_candidates
            if node.ended(process):
                candidates.append((-node.total, first, -1, node))
                continue
            for index in range(first, first + num_candidates):
                action = sampled(process.logits[node.state], 1.0, drawn[index])
                child = node.child(process, action)
                simulated = mixed(drawn[index], 1 << 16)
                score = prospect(process, child, simulated, levels, number, bootstrap, counts)
                counts["generated"] += 1
                candidates.append((-score, index, action, child))
        candidates.sort(key=lambda candidate: candidate[:2])
        kept = candidates[:width]
        counts["generated"] += sum(action >= 0 for _, _, action, _ in kept)  # they are played anew
        turns.append([(index // num_candidates, action, node) for _, index, action, node in kept])
        frontier = [node for _, _, node in turns[-1]]
    return turns, counts


@dataclasses.dataclass
class Trace:
    """What a rollout that steps back did: one entry an iteration."""

    actions: list[int] = dataclasses.field(default_factory=list)
    steps_back: list[int] = dataclasses.field(default_factory=list)
    positions: list[int] = dataclasses.field(default_factory=list)
    log_probs: list[float] = dataclasses.field(default_factory=list)


def backtrack(
    process: Process,
    key: jax.Array,
    start: int,
    num_turns: int,
    *,
    index: int = 0,
    threshold: float,
    steps_back: int,
    distance: str,
    max_retries: int,
    retry_temperature: float,
    free: bool,
    temperature: float = 1.0,
    after: Callable[[int, int, int], int] | None = None,
    clairvoyant: bool = False,
) -> tuple[Node, Trace]:
    """The state machine: a stack of nodes, popped where the policy is unsure.

    `after(state, action, word)` is the next state under chance; the word is that of the iteration or, `clairvoyant`,
    of the turn's position in the path.
    """
    stack, trace, retries = [Node(start)], Trace(), 0
    iteration = 0
    while len(stack) - 1 < num_turns and not stack[-1].ended(process) and (free or iteration < num_turns):
        word = words(key, iteration, index + 1)[index]
        position, heat, back = len(stack) - 1, temperature, 0
        if entropy(process.logits[stack[-1].state], temperature) > threshold and retries < max_retries and position > 0:
            most = min(position, steps_back)
            back = most if distance == "fixed" else 1 + int((mixed(word, 3) >> 9) / 2**23 * most)
            del stack[-back:]
            retries, heat = retries + 1, retry_temperature
        node = stack[-1]
        action = sampled(process.logits[node.state], heat, word)
        child = node.child(process, action)
        if after is not None:
            step_word = words(key, len(stack) - 1, index + 1)[index] if clairvoyant else word
            child = dataclasses.replace(child, state=after(node.state, action, step_word))
        stack.append(child)
        trace.actions.append(action)
        trace.steps_back.append(back)
        trace.positions.append(len(stack) - 1)
        trace.log_probs.append(math.log(probabilities(process.logits[node.state], heat)[action]))
        iteration += 1
    return stack[-1], trace


@dataclasses.dataclass(frozen=True)
class ProposedTurn:
    actions: tuple[int, ...]
    log_prob: float
    entropy: float


def backtrack_turns(
    process: Process,
    key: jax.Array,
    num_turns: int,
    *,
    index: int,
    threshold: float,
    steps_back: int,
    max_retries: int,
    propose: Callable[[int, int], ProposedTurn],
    retry_propose: Callable[[int, int], ProposedTurn],
) -> tuple[Node, list[tuple[int, float, ProposedTurn, tuple[int, ...]]]]:
    """Backtracking over turns that come from functions of (state, word).

    The end, and for each iteration (turns stepped back, entropy that was looked at, turn, actions played).
    """
    stack, trace, retries = [Node(0)], [], 0
    while len(stack) - 1 < num_turns and not stack[-1].ended(process) and len(trace) < num_turns:
        word = words(key, len(trace), index + 1)[index]
        turn, back = propose(stack[-1].state, word), 0
        seen, most = turn.entropy, min(len(stack) - 1, steps_back)
        if seen > threshold and retries < max_retries and most > 0:
            back, retries = 1 + int((mixed(word, 3) >> 9) / 2**23 * most), retries + 1
            del stack[-back:]
            turn = retry_propose(stack[-1].state, mixed(word, 4))
        node = stack[-1]
        for action in turn.actions:
            node = node if node.scale == 0 else node.child(process, action)
        trace.append((back, seen, turn, node.path[len(stack[-1].path) :]))
        stack.append(node)
    return stack[-1], trace
