"""`fluxshard flow`."""

from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from fluxshard.arguments import DatasetPath, Resources, check_writable, writing

if TYPE_CHECKING:
    from flow_cache.flow_files import Kind


def flow(
    dataset: DatasetPath,
    /,
    *,
    estimator: str,
    from_clips: bool = False,
    levels: tuple[int, ...] = (),
    directions: tuple[Literal["forward", "backward"], ...] = (),
    max_error_px: float | None = None,
    import_: Annotated[str, arg(name="import", metavar="FOLDER")] = "",
    export: Annotated[str, arg(metavar="FOLDER")] = "",
    files: Literal["npz", "png", "flo"] = "npz",
    resources: Annotated[Resources, arg(name="")] = Resources(),  # noqa: B008 - frozen
) -> int:
    """Add a flow layer to a dataset, beside those that it has; nothing else of it changes.

    Run it again after an interruption: it continues where it stopped.

    Args:
        dataset: folder or URL of the dataset.
        estimator: flow estimator of the layer; with --import, what to call the one that made the
            files; with --export, the layer: its estimator, or the start of its digest.
        from_clips: compute on the stored clips instead of the source videos; another layer.
        levels: frame distances for which flow is stored; by default as the dataset was built, with
            --import as in the files.
        directions: of flow in time that are stored, `forward`, `backward` or both with a comma; by
            default as the dataset was built, with --import as in the files.
        max_error_px: largest error of a stored flow component; by default as the dataset was built.
        import_: take the flow from files in a folder, such as KEY/000000_000001.flo; .flo, KITTI's
            .png and .npz are read.
        export: write the flow of a layer to files in a folder; nothing is added.
        files: what --export writes: npz with visibility, KITTI's png, or flo, which has none.
    """
    from fluxshard.terminal import print_outcome, progress_bars
    from pipeline.building.add_layer import add_layer, build_layer, layer_spec
    from pipeline.exchange.import_layer import imported_shards
    from shards import Dataset, Store, UsageError

    if (import_ or export) and (from_clips or bool(import_) == bool(export)):
        raise UsageError("give one of --import, --export and --from-clips")
    if export:
        return write_files(dataset, estimator, export, files, resources)
    with writing(dataset):
        opened, catalog = Dataset(dataset), resources.catalog()
        spec = None
        if not import_:
            spec = layer_spec(
                opened,
                estimator,
                from_clips=from_clips,
                levels=levels,
                directions=directions,
                max_error_px=max_error_px,
            )
        check_writable(dataset)
        with resources.cluster(dataset) as client, progress_bars() as show:
            if spec is None:
                source = Store(import_)
                shards = imported_shards(opened, source, estimator, client, show, levels=levels)
                (spec,) = shards.specs
                outcome = build_layer(opened, shards, client, show, catalog)
            else:
                outcome = add_layer(opened, spec, client, show, catalog)
    print_outcome(outcome, f"{dataset}/flow/{spec.layer}")
    return outcome.exit_code(strict=False)


def write_files(dataset: str, name: str, out: str, kind: "Kind", resources: Resources) -> int:
    """Write a layer as files; returns the exit code."""
    from fluxshard.terminal import progress_bars, say
    from pipeline.exchange.export_layer import export_layer
    from shards import Dataset, Store

    opened = Dataset(dataset)
    layer = opened.layer(name)
    check_writable(out)
    with resources.cluster(out) as client, progress_bars() as show:
        written = export_layer(opened, layer, Store(out), kind, client, show)
    say(f"{written:,} files of {layer.name} → {out}")
    return 0
