"""What a study shows on the terminal while it works."""

from __future__ import annotations

from benchmarks import console


class Progress:
    """A bar for the part of the study under way, and a line for whatever is worth keeping on the screen.

    Where the output is not a terminal there is no bar; each part is named when it ends.
    """

    def __init__(self) -> None:
        self.console = console.terminal()
        self._bar = console.progress_bar(self.console)
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, part: str, total: int | None = None) -> None:
        """A part of the study begins, of `total` steps where that is known."""
        self._bar.reset(self._task, description=part, total=total)

    def advanced(self, steps: int = 1, note: str | None = None) -> None:
        """Some steps of the part are done; `note` takes the place of what is said about it."""
        self._bar.update(self._task, advance=steps, **({} if note is None else {"description": note}))

    def say(self, line: str, style: str = "") -> None:
        """Prints a line that stays."""
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
