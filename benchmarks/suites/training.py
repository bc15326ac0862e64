"""Training: the whole step and its parts, decoding, devices, learning curves, accelerators."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import training_arms as arms_of
from benchmarks import training_curves, training_decoding, training_webshop
from benchmarks.measure import Arm, Measurement, Program, Unavailable, failure, measure, ratio
from benchmarks.results import Row, Target
from benchmarks.rows import RowMaker
from benchmarks.suites import Case, Plot, Settings, Suite
from benchmarks.training_arms import Work, work
from benchmarks.training_curves import Curve, Run
from jaxrl_agents import rollouts
from jaxrl_agents.training import Evaluation

NAME = "training"
ID = "Sokoban-RAGEN-v0"
GROUPS, GROUP_SIZE = 8, 8
DEVICES = 8

STEP_COST = 1.15  # time of a step over that of its bare forwards and its bare forward and backward pass
CACHE_GAIN = 5.0  # of decoding at CONTEXT tokens
CONTEXT = 256
SAME_LOSS = 1e-5  # between one and eight devices
SAME_GRADIENT = 1e-6  # of its norm
SHORT_OF_OPTIMUM = 0.03  # FrozenLake's success below the exact optimum
MINUTES = {training_curves.LAKE: 3.0, training_curves.ROOMS: 15.0, training_webshop.ID: 20.0}  # that a run may take
ROOMS_SOLVED = 0.70  # of the rooms that are held out, greedily
MATRIX_SHARE = 40.0  # per cent of the measured rate of matrix products, on an accelerator
ACCELERATOR_STEPS = 1e6  # environment steps a second, on an accelerator

STRATEGIES: dict[str, tuple[Any, int]] = {  # and rows that a forward has for each episode
    "standard": (rollouts.Standard(), 1),
    "best_of_n": (rollouts.BestOfN(4), 4),
    "beam": (rollouts.Beam(4, 4), 4),
    "lookahead": (rollouts.Lookahead(2, 4), 4),
    "entropy_backtrack": (rollouts.EntropyBacktrack(0.3), 1),
}

ArmFactories = dict[str, Callable[[], Arm]]
ProgramFactories = dict[str, Callable[[], Program]]


def cases(settings: Settings) -> Iterator[Case]:
    """The cases in the order in which they run: the figures that matter most first."""
    whole: ProgramFactories = {"step": functools.partial(_program, "standard")}
    yield Case(f"{ID}/step", functools.partial(run_step, settings), whole)
    yield Case("transformer/decoding", functools.partial(run_decoding, settings))
    if settings.full:
        programs: ProgramFactories = {
            name: functools.partial(_program, name) for name in STRATEGIES if name != "standard"
        }
        yield Case(f"{ID}/search", functools.partial(run_search, settings), programs)
        yield Case("transformer/forward", functools.partial(run_forward, settings))
        yield Case(f"{ID}/devices", functools.partial(run_devices, settings))
        yield Case(f"{training_curves.LAKE}/learning", functools.partial(run_learning, settings))
        yield Case(f"{training_curves.ROOMS}/learning", functools.partial(run_learning_rooms, settings))
        yield Case(f"{training_webshop.ID}/learning", functools.partial(run_webshop, settings))
        yield Case("accelerator/update", functools.partial(run_accelerator_update, settings))
        yield Case("accelerator/step", functools.partial(run_accelerator_step, settings))


def _program(name: str) -> Program:
    return arms_of.step_program(work(GROUPS, GROUP_SIZE, rollout=STRATEGIES[name][0]))


# The step -----------------------------------------------------------------------------------------------------------


def run_step(settings: Settings) -> Iterator[Row]:
    """The whole step against its bare forwards and its bare gradient; its parts, memory and compile time."""
    base = work(GROUPS, GROUP_SIZE, num_layers=2 if settings.full else 1)  # half the time goes into compiling
    arms: ArmFactories = {
        "step": functools.partial(arms_of.step, base),
        "forwards": functools.partial(arms_of.forwards, base),
        "gradient": functools.partial(arms_of.gradient, base),
    }
    if settings.full:
        arms["rollout"] = functools.partial(arms_of.rollout, base)
        arms["update"] = functools.partial(arms_of.update, base)
    measured = measure(arms, settings.budget)
    rows = RowMaker(NAME, f"{ID}/step", base.batch_size)
    yield cost_of(rows, measured["step"], [measured["forwards"], measured["gradient"]])
    yield from _rates(rows, base, measured)
    yield from _times(rows, measured)
    yield from _costs(rows, base, measured["step"])


def cost_of(rows: RowMaker, step: Measurement, parts: Seq[Measurement], **fields: Any) -> Row:
    """The time of a step over the sum of those of its parts, within each repeat."""
    metric = "time over forwards and gradient"
    fields = {"better": "lower", "target": Target("<=", STEP_COST), **fields}
    lacking = [arm for arm in (step, *parts) if arm.rates is None]
    if lacking:
        return rows.missing(metric, "×", lacking[0], **fields)
    shares: Any = [ratio(step, part) for part in parts]  # of the step's time
    return rows.sample(metric, "×", 1 / np.sum(shares, axis=0), **fields)


_NOTES = {
    "step": "one jitted, donated program: plain rollouts, GRPO, AdamW; 10 turns",
    "rollout": "the first half of the step, compiled alone",
    "update": "the second half of the step, compiled alone: advantages, loss, optimiser",
    "forwards": "the policy alone, a forward of all episodes for each turn",
    "gradient": "cross-entropy, forward and backward, on all the turns at once",
}


def _rates(rows: RowMaker, base: Work, measured: Mapping[str, Measurement]) -> Iterator[Row]:
    """Environment steps and tokens a second."""
    for name in ("step", "rollout"):
        if name in measured:
            arm = measured[name].times(measured[name].summary.get("env_steps", 0.0))
            yield rows.rate(arm, "env steps/s", parameters={"arm": name}, note=_NOTES[name])
    for name, arm in measured.items():
        played = arm.summary.get("policy_forwards", 0.0)
        through = {"step": played + base.update_rows, "rollout": played}.get(name, float(base.update_rows))
        yield dataclasses.replace(
            rows.rate(arm.times(through * base.num_tokens), "tokens/s", parameters={"arm": name}, note=_NOTES[name]),
            compile_seconds=None,
        )


def _times(rows: RowMaker, measured: Mapping[str, Measurement]) -> Iterator[Row]:
    """Milliseconds of each program, and the halves' shares of the whole."""
    for name, arm in measured.items():
        yield milliseconds(rows, arm, {"arm": name}, note=_NOTES[name])
    for name in ("rollout", "update"):
        share = ratio(measured["step"], measured[name]) if name in measured else None
        if share is not None:
            note = "compiled alone; the two need not add up to 100"
            yield rows.sample("share of the step", "%", 100 * share, parameters={"arm": name}, note=note)


def milliseconds(rows: RowMaker, arm: Measurement, parameters: dict[str, Any], **fields: Any) -> Row:
    """The time of a step."""
    fields = {"parameters": parameters, "better": "lower", **fields}
    if arm.rates is None:
        return rows.missing("time", "ms", arm, **fields)
    return rows.sample("time", "ms", 1e3 / arm.rates, **fields)


def _costs(rows: RowMaker, base: Work, step: Measurement) -> Iterator[Row]:
    """Compile times and memory."""
    if step.rates is None:
        return
    fields: dict[str, Any] = {"better": "lower"}
    yield rows.fact("first compile", "s", step.compile_seconds or 0.0, parameters={"program": "step"}, **fields)
    yield rows.fact("first compile", "s", base.first[1], parameters={"program": "init"}, **fields)
    live, held = step.summary["bytes"], arms_of.estimated_bytes(base)
    yield rows.fact("live bytes", "bytes", live, note="of a step, as the compiler says", **fields)
    note = "state, tasks, gradient, episodes, and what the backward pass reads"
    yield rows.fact("live bytes over what a step must hold", "×", live / held, note=note, **fields)


# Search -------------------------------------------------------------------------------------------------------------


def run_search(settings: Settings) -> Iterator[Row]:
    """Steps with each rollout strategy, against the forwards that its search asks for and the gradient."""
    works = {name: work(GROUPS, GROUP_SIZE, rollout=made) for name, (made, _) in STRATEGIES.items()}
    plain = works["standard"]
    arms: ArmFactories = {"gradient": functools.partial(arms_of.gradient, plain)}
    for copies in sorted({copies for _, copies in STRATEGIES.values()}):
        arms[f"forwards, {copies}"] = functools.partial(arms_of.forwards, plain, copies)
    for name, made in works.items():
        arms[name] = functools.partial(arms_of.step, made)
        arms[f"{name}, rollout"] = functools.partial(arms_of.rollout, made)
    measured = measure(arms, settings.budget)
    rows = RowMaker(NAME, f"{ID}/search", plain.batch_size)
    for name in STRATEGIES:
        yield from strategy_rows(rows, name, measured, plain)


def strategy_rows(rows: RowMaker, name: str, measured: Mapping[str, Measurement], plain: Work) -> Iterator[Row]:
    """Rates, times and shares of the step with a strategy and of its rollout, and what the step costs."""
    strategy, copies = STRATEGIES[name]
    step, rollout, forwards = measured[name], measured[f"{name}, rollout"], measured[f"forwards, {copies}"]
    fields: dict[str, Any] = {"parameters": {"rollout": name}, "note": str(strategy)}
    yield rows.rate(step.times(step.summary.get("env_steps", 0.0)), "env steps/s", **fields)
    played = step.summary.get("policy_forwards", 0.0)
    yield dataclasses.replace(rows.rate(step.times(played), "forwards/s", **fields), compile_seconds=None)
    for program, arm, learned in (("step", step, plain.update_rows), ("rollout", rollout, 0)):
        parameters = {"rollout": name, "program": program}
        tokens = arm.times((arm.summary.get("policy_forwards", 0.0) + learned) * plain.num_tokens)
        yield dataclasses.replace(rows.rate(tokens, "tokens/s", parameters=parameters), compile_seconds=None)
        yield milliseconds(rows, arm, parameters)
    yield from _shares(rows, name, ratio(step, rollout), ratio(step, measured["standard, rollout"]))
    asked = played / max(1.0, forwards.summary.get("rows", 1.0))
    bare = forwards.times(1 / asked) if asked else forwards
    yield cost_of(rows, step, [bare, measured["gradient"]], **fields)


def _shares(rows: RowMaker, name: str, rollout: Any, plain: Any) -> Iterator[Row]:
    """The parts of the step's time that go into its rollout, and into the search in it."""
    parameters = {"rollout": name}
    if rollout is not None:
        yield rows.sample("rollout's share of the step", "%", 100 * rollout, parameters=parameters)
    if name != "standard" and rollout is not None and plain is not None:
        note = "what the rollout takes longer than plain rollouts of as many episodes"
        yield rows.sample("search's share of the step", "%", 100 * (rollout - plain), parameters=parameters, note=note)


# The transformer ----------------------------------------------------------------------------------------------------


def run_decoding(settings: Settings) -> Iterator[Row]:
    """Tokens decoded a second with the cache and without, by length of the context."""
    model, batch_size = training_decoding.model(), 8 if settings.full else 2
    for context in (64, CONTEXT, 1_024) if settings.full else (CONTEXT,):
        arms: ArmFactories = {
            name: functools.partial(_decoding, program, model, batch_size, context)
            for name, program in (("with the cache", training_decoding.cached), ("without", training_decoding.uncached))
        }
        measured = measure(arms, settings.budget)
        rows = RowMaker(NAME, "transformer/decoding", batch_size)
        for name, arm in measured.items():
            parameters = {"arm": name, "context": context}
            yield rows.rate(arm, "tokens/s", parameters=parameters, note="4 layers of 256, float32")
        gain = CACHE_GAIN if context == CONTEXT else None
        both = measured["with the cache"], measured["without"]
        yield rows.ratio("cache over none", *both, gain, parameters={"context": context})


def _decoding(program: Callable[..., Program], *arguments: Any) -> Arm:
    return program(*arguments).arm()


def run_forward(settings: Settings) -> Iterator[Row]:
    """Forward and gradient as shares of the measured rate of matrix products, for a small and a middling policy."""
    sizes: dict[str, dict[str, Any]] = {
        "2 layers of 64": {"d_model": 64, "num_layers": 2},
        "4 layers of 256": {"d_model": 256, "num_layers": 4, "num_heads": 8},
    }
    works = {name: work(1, 8, **size) for name, size in sizes.items()}
    arms: ArmFactories = {"matrix products": lambda: arms_of.matrix_product(1_024, "float32").arm()}
    for name, made in works.items():
        arms[f"forward, {name}"] = functools.partial(arms_of.forwards, made)
        arms[f"gradient, {name}"] = functools.partial(arms_of.gradient, made)
    measured = measure(arms, settings.budget)
    rows = RowMaker(NAME, "transformer/forward")
    yield rows.rate(measured["matrix products"], "flop/s", note="1,024 × 1,024, float32: the ceiling")
    for name, made in works.items():
        forward = made.policy.model.config.forward_flops(made.num_tokens) * made.update_rows
        for program, flops in {"forward": forward, "gradient": 3 * forward}.items():
            arm = measured[f"{program}, {name}"].times(flops)
            fields: dict[str, Any] = {"parameters": {"program": program, "policy": name}, "better": "higher"}
            yield share_of(rows, "share of matrix products", arm, measured["matrix products"], **fields)


def share_of(rows: RowMaker, metric: str, arm: Measurement, ceiling: Measurement, **fields: Any) -> Row:
    """Per cent of the ceiling's rate."""
    values = ratio(arm, ceiling)
    if values is None:
        return rows.missing(metric, "%", arm if arm.rates is None else ceiling, **fields)
    return rows.sample(metric, "%", 100 * values, **fields)


# Devices ------------------------------------------------------------------------------------------------------------


def run_devices(settings: Settings) -> Iterator[Row]:
    """One step on one and on eight simulated devices, the same episodes in all: time, and how far results differ."""
    from benchmarks.search_workers import call

    sizes = {"num_devices": DEVICES, "num_groups": GROUPS, "group_size": GROUP_SIZE}
    found = call("train", {**sizes, "repeats": settings.budget.repeats, "seconds": settings.budget.seconds})
    rows = RowMaker(NAME, f"{ID}/devices", GROUPS * GROUP_SIZE)
    rates = {count: np.array(values) for count, values in found["rates"].items()}
    for count, values in rates.items():
        yield rows.sample("time", "ms", 1e3 / values, parameters={"devices": int(count)}, better="lower")
    one, many = "1", str(DEVICES)
    note = f"simulated devices on {jax.device_count()} × {jax.default_backend()}; episodes split over `data`"
    yield rows.sample("time of eight over one", "×", rates[one] / rates[many], better="lower", note=note)
    loss, limit = found["loss"], Target("<=", SAME_LOSS)
    yield rows.fact("difference of the loss", "", abs(loss[one] - loss[many]), better="lower", target=limit)
    fields: dict[str, Any] = {"better": "lower", "target": Target("<=", SAME_GRADIENT)}
    note = "its norm over that of the gradient; an update on the same episodes of random actions"
    yield rows.fact("difference of the gradient", "", found["gradient_change"], note=note, **fields)


# Learning -----------------------------------------------------------------------------------------------------------

SEEDS = (0, 1, 2)
POINTS = 9  # evaluations of a run
EPISODES, FINAL_EPISODES = 1_024, 10_240
ROOMS_HELD_OUT = 256  # all of them, once: the policy is greedy and the environment deterministic


def run_learning(settings: Settings) -> Iterator[Row]:
    """Greedy success of the preset's runs over steps and seconds, three seeds, beside the exact optimum."""
    rows = RowMaker(NAME, f"{training_curves.LAKE}/learning")
    found = training_curves.curves(training_curves.LAKE, SEEDS, POINTS, EPISODES, FINAL_EPISODES)
    yield from learning_rows(rows, found, MINUTES[training_curves.LAKE])


def run_learning_rooms(settings: Settings) -> Iterator[Row]:
    """Greedy success of the preset's runs in rooms that are held out, over steps and seconds, three seeds."""
    rows = RowMaker(NAME, f"{training_curves.ROOMS}/learning")
    found = training_curves.curves(training_curves.ROOMS, SEEDS, POINTS, ROOMS_HELD_OUT, ROOMS_HELD_OUT)
    yield from learning_rows(rows, found, MINUTES[training_curves.ROOMS], Target(">=", ROOMS_SOLVED))


def learning_rows(
    rows: RowMaker, curves: Mapping[int, Curve], minutes: float, target: Target | None = None
) -> Iterator[Row]:
    """The curves as the runs go on, and what these came to over the seeds; `target` is that of their success."""
    found: list[Run] = []
    for seed, curve in curves.items():
        run = yield from followed(rows, curve, "success", {"seed": seed})
        found.append(run)
    yield rows.sample("time of a step", "s", [run.step_seconds for run in found], better="lower")
    processor = [run.step_processor_seconds for run in found]
    yield rows.sample("processor time of a step", "s", processor, better="lower")
    yield from _times_of(rows, found, minutes)
    final = [run.final.success.mean for run in found]
    note = f"of the last policy, greedy, {found[0].final.num_episodes:,} episodes a seed; p10 – p90 over the seeds"
    yield rows.sample("final success", "", final, better="higher", note=note, target=target)
    optimum = found[0].final.optimum
    if optimum is None:
        return
    yield rows.fact("optimum", "", optimum, note="exact, by value iteration; it may use the time, which no policy sees")
    limit = Target("<=", SHORT_OF_OPTIMUM)
    yield rows.sample("short of the optimum", "", [optimum - s for s in final], better="lower", target=limit)


def followed(rows: RowMaker, curve: Curve, metric: str, parameters: dict[str, Any]) -> Generator[Row, None, Run]:
    """A row for each point of a curve, "success" or "return", as the run comes to it; the run in the end."""
    while True:
        try:
            steps, reached = next(curve)
        except StopIteration as ended:
            return ended.value
        value = (reached.success if metric == "success" else reached.episode_return).mean
        yield rows.fact(metric, "", value, parameters={**parameters, "steps": steps}, better="higher")


def _times_of(rows: RowMaker, runs: Seq[Run], minutes: float, **fields: Any) -> Iterator[Row]:
    """What whole runs took, on the wall's clock and on the processor's."""
    note = "of a run: compilation, steps and the evaluations on the way"
    fields = {"better": "lower", "note": note, **fields}
    limit = Target("<=", 60 * minutes)
    yield rows.sample("wall time", "s", [run.seconds for run in runs], target=limit, **fields)
    yield rows.sample("processor time", "s", [run.processor_seconds for run in runs], **fields)


WEBSHOP_POINTS = 10
ABOVE_THE_RULE = {"from scratch": 0.05, "after a warm start": 0.15}  # WebShop's return, at least


def run_webshop(settings: Settings) -> Iterator[Row]:
    """WebShop's return on goals of held-out products: scripts, training from scratch and after a warm start."""
    rows = RowMaker(NAME, f"{training_webshop.ID}/learning")
    reached = training_webshop.scripts(settings.products, {})
    yield from webshop_rows(rows, reached)
    rule = reached[training_webshop.RULE].episode_return.mean
    for name, document in training_webshop.VARIANTS.items():
        parameters = {"policy": f"trained {name}"}
        curve = training_webshop.run(settings.products, document, WEBSHOP_POINTS)
        run = yield from followed(rows, curve, "return", parameters)
        yield from webshop_rows(rows, {f"trained {name}": run.final})
        yield from _times_of(rows, [run], MINUTES[training_webshop.ID], parameters=parameters)
        above, limit = run.final.episode_return.mean - rule, Target(">=", ABOVE_THE_RULE[name])
        yield rows.fact("return above the rule", "", above, parameters=parameters, better="higher", target=limit)


def webshop_rows(rows: RowMaker, reached: Mapping[str, Evaluation]) -> Iterator[Row]:
    """Return and success of each policy, with 95 % intervals in the notes."""
    for name, result in reached.items():
        for metric, interval in (("final return", result.episode_return), ("final success", result.success)):
            note = f"95 % interval {interval.low:.3f} … {interval.high:.3f}, {result.num_episodes} episodes"
            yield rows.fact(metric, "", interval.mean, parameters={"policy": name}, better="higher", note=note)


# Accelerators -------------------------------------------------------------------------------------------------------

LARGE: dict[str, Any] = {"d_model": 1_024, "num_layers": 12, "num_heads": 16, "dtype": "bfloat16"}  # 150 M parameters
SMALL: dict[str, Any] = {"d_model": 32, "num_layers": 1, "num_heads": 2}


def run_accelerator_update(settings: Settings) -> Iterator[Row]:
    """The update of a policy of 150 million parameters in bfloat16, against the measured rate of matrix products."""
    rows = RowMaker(NAME, "accelerator/update")
    target = Target(">=", MATRIX_SHARE)
    if not _on_accelerator():
        yield rows.missing("share of matrix products", "%", _LEFT_OUT, better="higher", target=target)
        return
    yield from update_rows(rows, settings, work(32, 16, num_micro_batches=8, **LARGE), 8_192, target)


def update_rows(rows: RowMaker, settings: Settings, made: Work, matrix_size: int, target: Target) -> Iterator[Row]:
    """An update's share of the rate of matrix products of that size, in the policy's dtype."""
    config = made.policy.model.config
    arms: ArmFactories = {
        "matrix products": lambda: arms_of.matrix_product(matrix_size, config.dtype).arm(),
        "update": functools.partial(arms_of.update, made),
    }
    measured = measure(arms, settings.budget)
    yield rows.fact("parameters", "", config.num_parameters)
    flops = 3 * config.forward_flops(made.num_tokens) * made.update_rows
    update = measured["update"].times(flops)
    note = f"{matrix_size:,} × {matrix_size:,}, {config.dtype}"
    yield rows.rate(measured["matrix products"], "flop/s", parameters={"arm": "matrix products"}, note=note)
    note = "three times the operations of the matrix products of a forward"
    yield rows.rate(update, "flop/s", parameters={"arm": "update"}, note=note)
    fields: dict[str, Any] = {"better": "higher", "target": target}
    yield share_of(rows, "share of matrix products", update, measured["matrix products"], **fields)


def run_accelerator_step(settings: Settings) -> Iterator[Row]:
    """Environment steps a second of whole training steps with a small policy, by number of episodes."""
    target = Target(">=", ACCELERATOR_STEPS)
    if not _on_accelerator():
        rows = RowMaker(NAME, "accelerator/step")
        yield rows.missing("best throughput", "env steps/s", _LEFT_OUT, better="higher", target=target)
        return
    yield from throughput_rows(settings, (work(groups, 16, **SMALL) for groups in (512, 2_048, 8_192)), target)


def throughput_rows(settings: Settings, works: Iterable[Work], target: Target) -> Iterator[Row]:
    """Environment steps a second of whole steps of each size, and the best of them beside the target."""
    found = []
    for made in works:
        arm = measure({"step": functools.partial(arms_of.step, made)}, settings.budget)["step"]
        rows = RowMaker(NAME, "accelerator/step", made.batch_size)
        found.append(rows.rate(arm.times(arm.summary.get("env_steps", 0.0)), "env steps/s"))
        yield found[-1]
    best = max(found, key=lambda row: row.value or 0.0)
    yield dataclasses.replace(best, metric="best throughput", target=target)


def _on_accelerator() -> bool:
    return jax.default_backend() != "cpu"


_LEFT_OUT = failure(Unavailable("there is no accelerator here: this case was left out"))


def plots(rows: Seq[Row], folder: Path) -> Iterator[Plot]:
    """Draws what there are rows for."""
    from benchmarks import training_plots

    yield from training_plots.training(rows, folder)


SUITE = Suite(NAME, "Training", cases, plots)
