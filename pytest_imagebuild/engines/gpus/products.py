"""From the name of a product, as the driver has it, to the types by which people ask for it."""

from __future__ import annotations

import re

__all__ = ["types_of"]

_VENDOR = {"NVIDIA", "TESLA", "GEFORCE", "QUADRO", "GRAPHICS", "DEVICE"}
_FORM = re.compile(r"SXM\d*|PCIE|PCI|NVL|HBM\d\w*|LAPTOP|GPU|GENERATION|SERVER|WORKSTATION|EDITION|BLACKWELL|MAX|Q")
_MEMORY = re.compile(r"\d+GB")
_ALIASES = {"A10G": ("A10",)}
"""What Modal calls by another name."""


def types_of(product: str) -> tuple[str, ...]:
    """Return the types of a product, the most exact first, in capitals.

    They are the words of the name without vendor and form factor, joined by dashes, and the same with the memory where
    the name tells it: A100-40GB and A100 for "NVIDIA A100-SXM4-40GB".
    """
    words = [word for word in re.split(r"[\s-]+", product.upper()) if word and word not in _VENDOR]
    memory = next((word for word in words if _MEMORY.fullmatch(word)), "")
    kept = [word for word in words if word != memory and not _FORM.fullmatch(word)]
    if not kept:
        return ()
    name = "-".join(kept)
    exact = (f"{name}-{memory}",) if memory else ()
    return (*exact, name, *_ALIASES.get(name, ()))
