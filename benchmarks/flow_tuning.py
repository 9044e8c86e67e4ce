"""How `variational` does beside DIS on data that its constants were not chosen on.

The constants of CHOICES are chosen anew for each data set, on the others alone: of the shipped
values and of those that differ in one of them, whichever have the least error there. What is
reported is the error on the data set left out. Every data set counts the same, however many pairs.
"""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from flow_pairs import Case

from flow_cache.estimators import load_estimator

PACKAGE = "flow_cache.estimators.variational"
CHOICES = {  # module and constant, with the values tried beside the shipped one
    ("relaxation", "SMOOTHNESS"): (0.35, 0.6),
    ("constancy", "OUTLIER"): (1.0, 4.0),
    ("fusion", "FAVOUR"): (0.75, 1.0),
    ("fusion", "LIMIT"): (0.03, 0.15),
}
Setting = tuple[str, str, float] | None  # None: as shipped
Ratios = dict[Setting, dict[str, float]]  # error over DIS's by setting, then by pair


def ratios(cases: Sequence[Case]) -> Ratios:
    """Of every setting on every pair, forward flow alone."""
    dis = {case.name: error("dis", case) for case in cases}
    found: Ratios = {}
    for setting in settings():
        with constants(setting):
            found[setting] = {c.name: error("variational", c) / dis[c.name] for c in cases}
    return found


def settings() -> Iterator[Setting]:
    yield None
    for (module, name), values in CHOICES.items():
        yield from ((module, name, value) for value in values)


@contextmanager
def constants(setting: Setting) -> Iterator[None]:
    """With one constant of the estimator at another value."""
    if setting is None:
        yield
        return
    module, name, value = import_module(f"{PACKAGE}.{setting[0]}"), setting[1], setting[2]
    shipped = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, shipped)


def error(estimator: str, case: Case) -> float:
    """Mean end-point error in pixels."""
    flow = load_estimator(estimator).clip(case.frames, [(0, 1)])[0][0]
    return float((flow - case.truth).square().sum(0).sqrt()[case.known].mean())


def data_set(pair: str) -> str:
    """`kitti2012` of "kitti2012_000074 image_0_000074_10"."""
    return pair.split("_")[0]


def by_data_set(found: dict[str, float]) -> dict[str, float]:
    """Geometric means."""
    names = dict.fromkeys(map(data_set, found))
    return {name: mean([x for p, x in found.items() if data_set(p) == name]) for name in names}


def mean(values: Sequence[float]) -> float:
    return statistics.geometric_mean(values) if values else float("nan")


def left_out(found: Ratios) -> dict[str, tuple[float, Setting]]:
    """For each data set its ratio with constants chosen on the others, and what differs in them."""
    sets = {setting: by_data_set(pairs) for setting, pairs in found.items()}
    result = {}
    for name in sets[None]:

        def of_others(setting: Setting, name: str = name) -> float:
            return mean([x for other, x in sets[setting].items() if other != name])

        chosen = None if len(sets[None]) == 1 else min(sets, key=of_others)
        result[name] = (sets[chosen][name], chosen)
    return result


def show(seen: Sequence[Case], unseen: Sequence[Case], size: str) -> None:
    """Print each data set's ratio as shipped and as left out, then those of unseen pairs."""
    print(f"\nvariational / DIS medium, geometric mean of end-point errors, {size}")
    print(f"{'':16}{'pairs':>6}{'shipped':>9}{'left out':>10}  constants chosen on the others")
    if seen:
        found = ratios(seen)
        held, shipped = left_out(found), by_data_set(found[None])
        for name, (ratio, setting) in held.items():
            pairs = sum(data_set(case.name) == name for case in seen)
            chosen = "as shipped" if setting is None else f"{setting[1]} = {setting[2]}"
            print(f"{name:16}{pairs:6}{shipped[name]:9.2f}{ratio:10.2f}  {chosen}")
        total = mean([ratio for ratio, _ in held.values()])
        print(f"{'data sets':16}{len(seen):6}{mean(list(shipped.values())):9.2f}{total:10.2f}")
    if unseen:
        dis = {case.name: error("dis", case) for case in unseen}
        pairs_of = {c.name: error("variational", c) / dis[c.name] for c in unseen}
        for name, ratio in by_data_set(pairs_of).items():
            pairs = sum(data_set(pair) == name for pair in pairs_of)
            print(f"{name:16}{pairs:6}{ratio:9.2f}{'':12}none: not for choosing")
        print(f"{'unseen pairs':16}{len(unseen):6}{mean(list(pairs_of.values())):9.2f}")
