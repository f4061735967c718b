"""Progress bars, on a terminal only; what befalls one never ends the work."""

import sys
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm


class ProgressBar:
    """A bar of tqdm's that is given up at its first failure: without a stderr, or with a closed one, say.

    It has what a downloader of pooch's asks of a bar: ``total``, `update`, `reset`, `close`.
    """

    def __init__(self, total: int, shown: bool = True, **settings: Any) -> None:
        self.total = total
        self.position = 0
        self._bar: Any = None
        if shown and sys.stderr is not None:
            with suppress(Exception):
                self._bar = tqdm(total=total, disable=None, **settings)

    def update(self, by: int = 1) -> None:
        """Go on by so many."""
        self.position += by
        self._let("update", by)

    def update_to(self, position: int) -> None:
        """Go on to a position; never back."""
        self.update(max(position - self.position, 0))

    def describe(self, text: str) -> None:
        """Write before the bar."""
        self._let("set_description", text)

    def note(self, text: str) -> None:
        """Write behind the bar, when it is drawn next."""
        self._let("set_postfix_str", text, False)

    def reset(self) -> None:
        """Begin anew."""
        self.position = 0
        self._let("reset")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._let("close")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _let(self, method: str, *arguments: Any) -> None:
        if self._bar is None:
            return
        try:
            getattr(self._bar, method)(*arguments)
        except Exception:
            self._bar = None
