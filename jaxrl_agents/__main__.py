"""`python -m jaxrl_agents`."""

import sys

from jaxrl_agents.cli import main

if __name__ == "__main__":
    sys.exit(main())
