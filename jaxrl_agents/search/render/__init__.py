"""Pictures of a search: the tree of one root as text or with the environment's frames, and its best path."""

from jaxrl_agents.search.render.path import path_image
from jaxrl_agents.search.render.text import tree_text
from jaxrl_agents.search.render.tree import tree_image

__all__ = ["path_image", "tree_image", "tree_text"]
