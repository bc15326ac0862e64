"""`python -m envs_jax`."""

import sys

from envs_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
