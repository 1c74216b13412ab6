"""Networks that label images: torch only, no paths, no Ray, no Zarr.

`base.py` is the protocol that every labeler keeps to, `registry.py` finds them by name. `build_labeler(name,
num_classes)` makes a network of this package with fresh weights; `MODELS` lists the names. Names are listed in
`__init__.pyi` and imported when they are first used: options can be checked without torch.
"""

from hmsa_label.lazy_names import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
