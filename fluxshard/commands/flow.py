"""`fluxshard flow`."""

from typing import Annotated

from tyro.conf import arg

from fluxshard.arguments import DatasetPath, Resources, check_writable, writing


def flow(
    dataset: DatasetPath,
    /,
    *,
    estimator: str,
    from_clips: bool = False,
    levels: tuple[int, ...] = (),
    resources: Annotated[Resources, arg(name="")] = Resources(),  # noqa: B008 - frozen
) -> int:
    """Add a flow layer to a dataset, beside those that it has; nothing else of it changes.

    Run it again after an interruption: it continues where it stopped.

    Args:
        dataset: folder or URL of the dataset.
        estimator: flow estimator of the layer.
        from_clips: compute on the stored clips instead of the source videos; another layer.
        levels: frame distances for which flow is stored; by default as in the configuration.
    """
    from fluxshard.terminal import print_outcome, progress_bars
    from pipeline.building.add_layer import add_layer, layer_spec
    from shards.index import Dataset

    with writing(dataset):
        opened = Dataset(dataset)
        spec = layer_spec(opened, estimator, from_clips=from_clips, levels=levels)
        catalog = resources.catalog()
        check_writable(dataset)
        with resources.cluster(dataset) as client, progress_bars() as show:
            outcome = add_layer(opened, spec, client, show, catalog)
    print_outcome(outcome, f"{dataset}/flow/{spec.layer}")
    return outcome.exit_code(strict=False)
