"""How every router is saved to a folder and read from it again, without running any code.

A folder holds ``config.json`` (parameters and the smaller part of what was learned), ``weights.safetensors`` (arrays)
and, for language models, a tokenizer. The configuration holds checksums of all files and of itself. Nothing that it
says is trusted: files, classes, parameters and shapes must be what the program itself would write.

`fields` has what a class of routers declares, `values` the JSON, `folder` the files, `base` the class that does it all.
"""

from routellm_lab.routers.saving.base import FORMAT, RouterBase, load_router

__all__ = ["FORMAT", "RouterBase", "load_router"]
