"""The live line."""

import io

from loadtest.progress import ProgressLine


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_rates_are_those_since_the_line_before() -> None:
    stream = Terminal()
    line = ProgressLine(stream)
    line.messages(1.0, 100, 50)
    line.messages(1.1, 9999, 9999)  # too soon for another line
    line.messages(3.0, 300, 1050)
    shown = stream.getvalue().split("\r")
    assert shown[1].rstrip() == "   1.0 s  sent 100 (100/s)  delivered 50 (50/s)"
    assert shown[2].rstrip() == "   3.0 s  sent 300 (100/s)  delivered 1,050 (500/s)"
    assert len(shown) == 3


def test_who_is_away_is_told() -> None:
    stream = Terminal()
    ProgressLine(stream).messages(1.0, 100, 50, 1200)
    assert stream.getvalue().rstrip().endswith("delivered 50 (50/s)  1,200 subscribers away")


def test_a_shorter_line_covers_the_longer_one_and_clear_leaves_nothing() -> None:
    stream = Terminal()
    line = ProgressLine(stream)
    line.show("a long text")
    line.show("short")
    line.clear()
    line.clear()
    assert stream.getvalue() == "\ra long text\rshort      \r     \r"


def test_connects_per_second() -> None:
    stream = Terminal()
    ProgressLine(stream).connects(2.0, 5000)
    assert stream.getvalue().strip() == "2.0 s  connected 5,000 (2,500/s)"


def test_a_file_gets_no_live_line() -> None:
    stream = io.StringIO()
    line = ProgressLine(stream)
    line.messages(1.0, 1, 1)
    line.clear()
    assert stream.getvalue() == ""
