"""What the files of one clip hold, in the place of an estimator."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import torch

from flow_cache import DEFAULT_CRITERION, FlowSpec, Pair, in_frame, visibility
from flow_cache.estimators import IMPORTED
from flow_cache.field import Flow, Frames, Images, Visible
from flow_cache.flow_files import Kind, read_flow
from flow_cache.occlusion import NATIVE
from flow_cache.spec import JSON
from pipeline.exchange.file_names import Found, Names
from pipeline.planning.config import FRAMES_REVISION
from shards import Store, UsageError
from shards.manifest import canonical_json, sha256_of

REVISION = "1"  # of how files become flow and visibility
MAX_ERROR_PX = 1 / 8  # held to a quarter of it: nothing tells how exact they are

Fields = dict[Pair, tuple[Flow, Visible | None]]  # n = 1; NaN where no flow is known


def imported_spec(
    name: str, found: Found, digests: Mapping[str, str], size: tuple[int, int]
) -> FlowSpec:
    """The spec of a layer of files: what they hold is part of it.

    Args:
        name: what to call who made them.
        digests: SHA-256 of each clip's files, by key.

    Raises:
        UsageError: the name is no name for an estimator.
    """
    try:
        return FlowSpec(
            estimator=IMPORTED + name,
            revision=REVISION,
            params={"files": sha256_of(canonical_json(dict(digests)))},
            weights_sha256=None,
            size=size,
            occlusion=NATIVE,
            levels=found.levels,
            directions=found.directions,
            max_error_px=MAX_ERROR_PX,
            frames_from="clip",
            frames_revision=FRAMES_REVISION["clip"],
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def read_files(folder: Store, names: Names, size: tuple[int, int]) -> tuple[Fields, str]:
    """Flow and, where they have it, visibility of a clip's files; and the SHA-256 of all.

    Raises:
        UsageError: one is not there, damaged, or of another size.
    """
    fields: Fields = {}
    digest = hashlib.sha256()
    for pair, name in sorted(names.items()):
        kind = _kind(name)
        try:
            data = folder.read(name)
            flow, visible = read_flow(data, kind)
        except FileNotFoundError:
            raise UsageError(f"{folder.at(name)} is gone: bring it back") from None
        except ValueError as error:
            raise UsageError(f"{folder.at(name)} {error}") from error
        if tuple(flow.shape[1:]) != size:
            raise UsageError(
                f"{folder.at(name)} is flow of {flow.shape[1]}x{flow.shape[2]} pixels, the clips "
                f"are {size[0]}x{size[1]}: resize the flow and scale its vectors, or estimate it "
                "on the stored clips"
            )
        digest.update(canonical_json([*pair, kind, sha256_of(data)]))
        fields[pair] = flow[None], None if visible is None else visible[None]
    return fields, digest.hexdigest()


def _kind(name: str) -> Kind:
    kind: Kind = name.rpartition(".")[2].lower()  # type: ignore[assignment]  # `file_names` saw it
    return kind


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedFlow:
    """A `FlowEstimator` that looks up what files say of one clip.

    Where a file has no visibility, that of the flow and its way back decides, by the default
    criterion, and without a way back, whether the flow stays in the frame. What is not known is
    hidden.

    Attributes:
        spec: of the layer.
        folder, names: where the files are.
        sha256: what they held when the layer was planned.
    """

    spec: FlowSpec
    folder: Store
    names: Names
    sha256: str

    differentiable: ClassVar[bool] = False
    whole_clip: ClassVar[bool] = True  # it knows this clip alone

    @property
    def name(self) -> str:
        return self.spec.estimator

    @property
    def revision(self) -> str:
        return REVISION

    @property
    def params(self) -> dict[str, JSON]:
        return dict(self.spec.params)

    @property
    def weights_sha256(self) -> None:
        return None

    def check_size(self, size: tuple[int, int]) -> None:
        """Any size may have been imported."""

    def clip(self, frames: Frames, pairs: Sequence[Pair]) -> tuple[Flow, Visible]:
        """As `FlowEstimator.clip`.

        Raises:
            UsageError: the files are not those that the layer was planned from.
        """
        fields, digest = read_files(self.folder, self.names, self.spec.size)
        if digest != self.sha256:
            raise UsageError(
                f"files in {self.folder.url} changed while they were imported, such as "
                f"{next(iter(self.names.values()))}: run the command again"
            )
        seen = torch.cat([_visible(fields, pair) for pair in pairs])
        flow = torch.cat([fields[pair][0] for pair in pairs])
        return flow.nan_to_num(nan=0.0), seen & flow.isfinite().all(1)

    def pair(self, first: Images, second: Images) -> NoReturn:
        raise ValueError(f"{self.name} is flow of stored files, which knows no other frames")


def _visible(fields: Fields, pair: Pair) -> Visible:
    flow, visible = fields[pair]
    if visible is not None:
        return visible
    back = fields.get(pair[::-1])
    return in_frame(flow) if back is None else visibility(flow, back[0], DEFAULT_CRITERION)
