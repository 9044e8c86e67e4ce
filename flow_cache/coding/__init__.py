"""One flow field to few bytes and back, with a stated maximum error.

codec       the self-describing bytes of a field     header     what they say about it
scales      how rounded flow becomes few bytes       residual   how whole numbers do
bound       how exactly a field is worth storing      packed     fields for a device to decode
"""

from flow_cache.coding.bound import field_bound
from flow_cache.coding.codec import (
    DecodedField,
    check_field,
    decode_field,
    decode_fields,
    encode_field,
)
from flow_cache.coding.header import DamagedField, FieldHeader, exact_step, read_header, relabel
from flow_cache.coding.packed import PackedFields, open_fields, packed_room, restore_fields

# fmt: off
__all__ = [
    "DamagedField", "DecodedField", "FieldHeader", "PackedFields", "check_field", "decode_field",
    "decode_fields", "encode_field", "exact_step", "field_bound", "open_fields", "packed_room",
    "read_header", "relabel", "restore_fields",
]
# fmt: on
