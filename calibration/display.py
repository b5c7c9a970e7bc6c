"""What a person sees while samples are taken: how many, what the image's cells have seen, what to do next."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from robot_rl.types import Array


class Display(Protocol):
    """Hears what happens while samples are taken."""

    def progress(self, done: int, wanted: int, covered: Array | None = None) -> None:
        """``covered`` [rows, columns] tells which cells of the image saw a corner."""
        ...

    def tell(self, text: str) -> None:
        """What happens now, or what the person should do next."""
        ...


class Terminal:
    """Live on a terminal, one line per message elsewhere."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._console = console or Console()
        self._title, self._note, self._covered = title, "", None
        self._done, self._wanted = 0, 1
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def progress(self, done: int, wanted: int, covered: Array | None = None) -> None:
        self._done, self._wanted, self._covered = done, wanted, covered
        self._show()

    def tell(self, text: str) -> None:
        if text != self._note:
            self._note = text
            if not self._console.is_terminal:
                self._console.print(f"{self._title} {self._done}/{self._wanted}: {text}", highlight=False)
        self._show()

    def _show(self) -> None:
        if self._console.is_terminal:
            self._live.update(self._rendered())

    def _rendered(self) -> Group:
        bar = ProgressBar(total=self._wanted, completed=self._done, width=40)
        parts = [Text(f"{self._title}: {self._done} of {self._wanted}", style="bold"), bar]
        if self._covered is not None:
            grid = "\n".join("".join("■ " if cell else "· " for cell in row) for row in self._covered)
            parts.append(Text(f"corners seen in the image ({100 * self._covered.mean():.0f} %)\n{grid}", style="green"))
        return Group(*parts, Text(self._note))
