"""Settings and data that all tests share."""

import contextlib
import gc
import os
import signal
from pathlib import Path

import jax
import pytest

# Nearly all the time of the tests is XLA's. In jax 0.10 its older emitter of fused loops, which later versions lack,
# compiles more than twice as fast as the default, and faster still where LLVM gets a program whole, not in parts for
# several threads; processes that the tests start inherit the choice.
if jax.__version_info__ < (0, 11):
    quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{quick} {os.environ.get('XLA_FLAGS', '')}"
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
# Tracing makes many objects that live on: looking for cycles among them less often saves a few per cent.
gc.freeze()
gc.set_threshold(100_000, 20, 50)


MAX_MAPPINGS = 20_000  # of memory; Linux allows a process 65,530, and LLVM's code crashes where it gets no more


@pytest.fixture(autouse=True, scope="module")
def programs_are_dropped_in_time():
    """Forgets compiled programs before they fill the process: each takes a dozen mappings, and there are thousands."""
    yield
    mappings = Path("/proc/self/maps")  # only Linux has it
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MAX_MAPPINGS:
        jax.clear_caches()


@contextlib.contextmanager
def _most_optimizations(disabled):
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, disabled)
    try:
        yield
    finally:
        jax.config.update(name, before)


@pytest.fixture
def optimized_programs():
    """For tests of what the compiler makes: its usual effort, also where JAX_DISABLE_MOST_OPTIMIZATIONS saves time."""
    with _most_optimizations(disabled=False):
        yield


@pytest.fixture(scope="module")
def quick_compilation():
    """For modules whose programs run a few times only: optimising them would cost more than it saves."""
    with _most_optimizations(disabled=True):
        yield


@pytest.fixture(scope="module")
def interruptible():
    """Ctrl-C as in a terminal, for processes that are started too; it is ignored in a script's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of third-party data named by ENVS_JAX_DATA; tests that need it are skipped without it."""
    folder = os.environ.get("ENVS_JAX_DATA")
    if not folder:
        pytest.skip("ENVS_JAX_DATA is not set: it names the folder with boxoban/ and webshop/")
    return Path(folder)
