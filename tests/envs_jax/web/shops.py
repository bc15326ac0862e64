"""Shops for tests, each made once: the synthetic one in several layouts, and WebShop's 1,000 real products."""

import functools
import json
from pathlib import Path

import envs_jax
from envs_jax.web.synthetic import generate_files
from tests.reference import webshop as reference

SEED, NUM_PRODUCTS = 3, 150


@functools.cache
def synthetic(**arguments):
    """(env, tasks) of the small synthetic shop."""
    return envs_jax.make("WebShop-v0", seed=SEED, num_products=NUM_PRODUCTS, **arguments)


@functools.cache
def real(folder: Path, **arguments):
    """(env, tasks) of the real products."""
    return envs_jax.make("WebShop-v0", seed=SEED, products=folder, **arguments)


@functools.cache
def synthetic_reference():
    """The reference's view of the synthetic products."""
    return reference.combine(*generate_files(SEED, NUM_PRODUCTS), {})


@functools.cache
def real_reference(folder: Path):
    """The reference's view of the real products."""
    return reference.read(folder)


def from_content(folder: Path, items, attributes, **arguments):
    """(env, tasks) of products given as the contents of WebShop's files, which are written to `folder`."""
    (folder / "items_shuffle.json").write_text(json.dumps(items))
    (folder / "items_ins_v2.json").write_text(json.dumps(attributes))
    return envs_jax.make("WebShop-v0", seed=SEED, products=folder, **arguments)
