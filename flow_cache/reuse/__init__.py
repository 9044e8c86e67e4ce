"""What makes it a cache: flow of earlier datasets, found by content and copied.

catalog      which datasets hold the flow of which videos
entries      the entry of one layer in it, and what a lookup finds
copying      stored fields into a new shard, checked
superseded   flow of shards of an unfinished dataset that are not planned any more

The shards are the cache, so this room stands on `shards`; nothing else of `flow_cache` does.
"""

from flow_cache.reuse.catalog import Catalog, default_catalog, open_catalog
from flow_cache.reuse.copying import StoredFields, enter, find_stored, frames_identity, register
from flow_cache.reuse.entries import Entry, StoredShard

# fmt: off
__all__ = [
    "Catalog", "Entry", "StoredFields", "StoredShard", "default_catalog", "enter", "find_stored",
    "frames_identity", "open_catalog", "register",
]
# fmt: on
