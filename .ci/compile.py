"""Import what a run imports, once, so that its bytecode is on the disk.

`make setup` installs without compiling, as a run imports 4,000 of the 20,000 files that are installed. Where Python
may not write bytecode later (PYTHONDONTWRITEBYTECODE, usual in containers) each command would compile them anew: half
of the processor time of a short one. Folders that cannot be written, such as a system's Python, stay as they are.
"""

from importlib import import_module
from pkgutil import walk_packages

import forwhy
from forwhy.models import load_causal_lm, load_text_encoder
from forwhy.wheels import PACKAGED

LATE = (
    "accelerate", "filelock", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "openai",
    "peft", "pytest", "safetensors.torch",
)  # fmt: skip
"""Imported inside functions, where they are needed."""

for name in [found.name for found in walk_packages(forwhy.__path__, "forwhy.")] + list(LATE):
    if not name.endswith("__main__"):
        import_module(name)
load_text_encoder("minilm")
for alias in sorted(PACKAGED.keys() - {"minilm"}):
    loaded = load_causal_lm(alias, dtype="bfloat16")
    question = loaded.tokenizer("Why?", return_tensors="pt").input_ids
    loaded.model.generate(question, max_new_tokens=2, do_sample=False)
