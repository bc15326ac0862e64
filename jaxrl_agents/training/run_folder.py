"""What a training run leaves on the disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from envs_jax.files import replaced
from jaxrl_agents.training import fields
from jaxrl_agents.training.config import TrainConfig


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration, JSON."""
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        """The metrics, a JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def curves(self) -> Path:
        """The picture of the learning curves."""
        return self.path / "curves.png"

    def check_new(self) -> None:
        """Raises ValueError where a run is there already, or the folder cannot be one."""
        if self.config.exists():
            raise ValueError(
                f"{self.path} holds a run already: go on with it (python -m jaxrl_agents resume {self.path}), or name "
                "another folder (--out)"
            )
        for left in (self.metrics, self.checkpoints):
            if left.exists():
                raise ValueError(
                    f"{self.path} holds the {left.name} of a run without its {self.config.name}: name another folder "
                    "(--out), or remove what is there"
                )
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; name another folder (--out)")

    def write_config(self, config: TrainConfig) -> None:
        """Writes the configuration, making the folder, and replacing the file only when the new one is complete."""
        self.path.mkdir(parents=True, exist_ok=True)
        with replaced(self.config) as partial:
            partial.write_text(fields.to_json(config) + "\n", encoding="utf-8")

    def read_config(self) -> TrainConfig:
        """The configuration of the run; nothing is filled in that might be another one.

        Raises:
          ValueError: no run is there, or its configuration is not valid or not complete.
        """
        if not self.config.exists():
            raise ValueError(f"{self.path} holds no run: {self.config} is not there")
        document = fields.read_json(self.config)
        try:
            config = fields.updated(TrainConfig(), document)
            missing = next(fields.left_out(config, document), None)
            if missing is not None:
                raise ValueError(
                    f"{missing[0]} is missing, as in runs of another version: add what the run had; the default is now "
                    f"{json.dumps(missing[1])}"
                )
        except ValueError as error:
            raise ValueError(f"{self.config}: {error}") from error
        return config
