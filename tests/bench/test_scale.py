"""The parts of docs/scale.md, which are written one by one."""

from pathlib import Path

from tests.bench.scale import keep_sections


def test_a_part_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nold\n\n## One\n\n1\n\n## Two\n\n2\n")
    keep_sections(page, "# Page\n\nnew\n")
    assert page.read_text() == "# Page\n\nnew\n\n## One\n\n1\n\n## Two\n\n2\n"
    keep_sections(page, "## One\n\n11\n")
    assert page.read_text() == "# Page\n\nnew\n\n## Two\n\n2\n\n## One\n\n11\n"
    keep_sections(page, "## Three\n\n3\n")
    assert page.read_text().endswith("## One\n\n11\n\n## Three\n\n3\n")
