"""What took long to find out of a dataset, kept in the user's cache folder for the next start.

A file is called after the digest of all that its content follows from, and has that and a checksum
inside: one that is stale, damaged or of another version is of no use, and what it should hold is
found out anew.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from shards import Store
from shards.manifest import canonical_json, sha256_of

MOST = 64  # files; the latest written are kept
_REVISION = 1  # raise it when the same facts lead to another finding


def kept(facts: Mapping[str, Any], find: Callable[[], Any]) -> Any:
    """What `find` gives, or gave before where all facts were the same.

    Args:
        facts: all that the finding follows from, as JSON.
        find: gives JSON.
    """
    digest = sha256_of(canonical_json({**facts, "revision": _REVISION}))
    folder = Path(platformdirs.user_cache_dir("fluxshard")) / "surveys"
    known = _read(folder / f"{digest}.json", digest)
    if known is not None:
        return known
    found = find()
    record = {"of": digest, "sha256": sha256_of(canonical_json(found)), "found": found}
    with suppress(OSError):  # a folder that cannot be written to costs the next start, not this one
        Store(folder).write(f"{digest}.json", canonical_json(record))
        for old in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-MOST]:
            old.unlink(missing_ok=True)
    return found


def _read(path: Path, digest: str) -> Any:
    """What is kept in a file; None if that is not what it is called after, or nothing."""
    try:
        record = json.loads(path.read_bytes())
        found = record["found"]
        is_sound = record["of"] == digest and record["sha256"] == sha256_of(canonical_json(found))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if is_sound else None
