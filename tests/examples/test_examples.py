"""What is true of every script."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
COMMANDS = re.compile(r"^ {4}\S+(?: launch)? (examples/\S+\.py) (.*?(?:\\\n.*)?)$", re.M)


def name_of(path: Path) -> str:
    return path.name


def arguments(path: Path) -> tuple[set[str], set[str]]:
    """All arguments of a script's `main`, and those that it needs, as flags."""
    body = ast.parse(path.read_text()).body
    (main,) = (n for n in body if isinstance(n, ast.FunctionDef) and n.name == "main")
    given = main.args
    names = [f"--{argument.arg}" for argument in given.args]
    return {*names}, {*names[: len(names) - len(given.defaults)]}


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_is_short_and_tested_and_its_page_and_it_give_the_same_command(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 80
    assert (ROOT / "tests" / "examples" / f"test_{path.name}").exists()
    pages = text, (ROOT / "docs" / "other-trainers.md").read_text()
    given = [
        {name: shlex.split(flags.replace("\\\n", " ")) for name, flags in COMMANDS.findall(page)}
        for page in pages
    ]
    (flags,) = given[0].values()
    assert given[1][f"examples/{path.name}"] == flags
    every, needed = arguments(path)
    assert needed <= {*flags[::2]} <= every
