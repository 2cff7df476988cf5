"""The live line on a terminal."""

import sys
from typing import TextIO


class ProgressLine:
    """One line that is written over and over; nothing at all if the stream isn't a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty()
        self._width = 0
        self._before = (0.0, 0, 0)

    def messages(self, seconds: float, sent: int, delivered: int, away: int = 0) -> None:
        """Show the counts, and the rates since the line before."""
        then, sent_then, delivered_then = self._before
        if seconds - then < 0.2:  # several workers report in turn
            return
        step = seconds - then
        self._before = (seconds, sent, delivered)
        self.show(
            f"{seconds:6.1f} s  sent {sent:,} ({(sent - sent_then) / step:,.0f}/s)"
            f"  delivered {delivered:,} ({(delivered - delivered_then) / step:,.0f}/s)"
            + (f"  {away:,} subscribers away" if away else "")
        )

    def connects(self, seconds: float, connects: int) -> None:
        """Show how many have connected."""
        self.show(
            f"{seconds:6.1f} s  connected {connects:,} ({connects / seconds:,.0f}/s)" if seconds else ""
        )

    def show(self, text: str) -> None:
        """Put `text` in the place of the line."""
        if self._live:
            self._stream.write("\r" + text.ljust(self._width))
            self._stream.flush()
            self._width = len(text)

    def clear(self) -> None:
        """Take the line away, for what is printed next."""
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0
