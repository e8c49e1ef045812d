"""How every router is saved to a folder and read from it again, without running any code.

A folder holds ``config.json`` (parameters and the smaller part of what was learned), ``weights.safetensors`` (arrays)
and, for language models, a tokenizer. The configuration holds checksums of all files and of itself. Nothing that it
says is trusted: files, classes, parameters and shapes must be what the program itself would write.
"""

from routellm_lab.routers.saving.base import FORMAT, RouterBase, load_router
from routellm_lab.routers.saving.fields import (
    NAMES,
    NUMBER,
    NUMBERS,
    PAIR,
    TIERS,
    WHOLE,
    WHOLE_NUMBERS,
    Array,
    ArrayByName,
    Field,
    Json,
    Nested,
    Reading,
    Table,
    saved_number,
    saved_pair,
)
from routellm_lab.routers.saving.folder import checksum
from routellm_lab.routers.saving.values import from_json, to_json

__all__ = [
    "FORMAT",
    "NAMES",
    "NUMBER",
    "NUMBERS",
    "PAIR",
    "TIERS",
    "WHOLE",
    "WHOLE_NUMBERS",
    "Array",
    "ArrayByName",
    "Field",
    "Json",
    "Nested",
    "Reading",
    "RouterBase",
    "Table",
    "checksum",
    "from_json",
    "load_router",
    "saved_number",
    "saved_pair",
    "to_json",
]
