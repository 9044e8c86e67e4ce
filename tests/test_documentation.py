"""What README and docs name is there, and a walk through the code goes from file to file."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
OURS = {"shards", "flow_cache", "pipeline", "trainer", "fluxshard"}
FOLDERS = "|".join(sorted(OURS | {"tests", "benchmarks", "examples"}))
FILE = re.compile(rf"`((?:{FOLDERS})/[\w/.]+)`")


def name_of(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page: Path):
    assert [name for name in FILE.findall(page.read_text()) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_to_files_and_headings(page: Path):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        file, _, heading = target.partition("#")
        other = page.parent / file if file else page
        assert other.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", other.read_text(), re.M)
            assert heading in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}


def modules_used(path: Path) -> set[str]:
    """Modules that a file imports, or imports something of through a package's door."""
    used: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            door = import_module(node.module)
            used |= {
                node.module,
                *(
                    getattr(door, a.name).__module__
                    for a in node.names
                    if hasattr(getattr(door, a.name, None), "__module__")
                ),
            }
    return used


def test_each_walk_has_at_most_ten_files_and_each_is_reached_from_an_earlier_one():
    walks = (ROOT / "docs" / "way-of-a-sample.md").read_text().split("\n## ")[1:]
    assert len(walks) == 2
    for walk in walks:
        files = FILE.findall(walk)
        assert len(files) <= 10
        reached = modules_used(ROOT / files[0])
        for name in files[1:]:
            assert name.removesuffix(".py").replace("/", ".") in reached, name
            reached |= modules_used(ROOT / name)


def test_the_way_in_the_readme_has_eight_files():
    section = (ROOT / "README.md").read_text().partition("## How a sample flows")[2]
    assert len(FILE.findall(section.partition("```")[0])) == 8
