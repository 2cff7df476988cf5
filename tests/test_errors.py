"""StartErrors are found wherever a task group has put them."""

from broker.errors import SettingsError, StartError, start_errors


def test_start_errors_are_found_in_groups() -> None:
    first, second = StartError("a"), SettingsError(["b"])
    group = BaseExceptionGroup("", [first, ExceptionGroup("", [second])])
    assert start_errors(group) == [first, second]
    assert start_errors(first) == [first]


def test_a_group_with_a_crash_is_a_crash() -> None:
    assert start_errors(ExceptionGroup("", [StartError("a"), ValueError()])) == []
    assert start_errors(ValueError()) == []


def test_one_mistake_is_one_line_and_several_are_listed() -> None:
    assert str(SettingsError(["a: wrong"])) == "a: wrong"
    assert str(SettingsError(["a", "b"])) == "2 mistakes in the settings:\n  a\n  b"
