"""One flow field to few bytes and back, with a stated maximum error.

codec       the self-describing bytes of a field     residual   how rounded flow becomes few bytes
"""

from flow_cache.coding.codec import (
    DecodedField,
    FieldHeader,
    as_stored,
    check_field,
    decode_field,
    encode_field,
    exact_step,
    read_header,
    relabel,
)

# fmt: off
__all__ = [
    "DecodedField", "FieldHeader", "as_stored", "check_field", "decode_field", "encode_field",
    "exact_step", "read_header", "relabel",
]
# fmt: on
