"""The house rules: who may import whom, how long a file or function may be, what imports cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "flow_cache": {"flow_cache"},
    "shards": {"shards"},
    "pipeline": {"pipeline", "flow_cache", "shards"},
    "trainer": {"trainer", "flow_cache", "shards"},
    "fluxshard": {"fluxshard", "flow_cache", "shards", "pipeline", "trainer"},
}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))
OPTIONAL = {"torchvision", "ptlflow", "dot", "imagecodecs", "s3fs", "gcsfs", "numba"}
MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 60
LOOP_LINES = 130


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> set[str]:
    """Top-level names of all modules imported anywhere below a node."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_packages_import_only_what_they_may(path: Path):
    package = path.relative_to(ROOT).parts[0]
    ours = imports(ast.parse(path.read_text())) & {*MAY_IMPORT, "fluxshard"}
    assert ours <= MAY_IMPORT.get(package, set(MAY_IMPORT))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_short(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) else node.body
        length = node.body[-1].end_lineno - body[0].lineno + 1 if body else 0
        limit = LOOP_LINES if name_of(path) == "trainer/run/loop.py" else MOST_LINES_OF_A_FUNCTION
        assert length <= limit, node.name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_have_docstrings_and_modules_say_what_they_are(path: Path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            trivial = isinstance(node, ast.FunctionDef) and len(node.body) == 1
            assert trivial or ast.get_docstring(node), node.name


@pytest.mark.parametrize(
    "module", ["flow_cache", "shards", "pipeline.building.job", "trainer", "fluxshard"]
)
def test_importing_touches_no_gpu_no_logging_and_no_optional_package(module: str):
    code = (
        f"import sys, logging, {module}; import torch; "
        f"assert not logging.root.handlers; assert not torch.cuda.is_initialized(); "
        f"found = set(sys.modules) & {OPTIONAL!r}; assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_folder_of_tests_is_a_package():
    """The packages' names are generic: a tests/pipeline package would shadow the real one."""
    assert not list((ROOT / "tests").rglob("__init__.py"))
