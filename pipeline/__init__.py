"""The verbs of hmsa-label.

    images -> decode -> teacher ------------> threshold -> label store
    stores/   data/     teacher/, labelers/   teacher/     stores/
              \\_______ label/worker.py, one per device _/       ^
                                |  one small receipt per image  |
                             engine/ -> label/run.py -> manifest +

The library is `hmsa_label`; `__init__.pyi` here lists what the command line uses besides. Names are imported when they
are first used, so that asking for help loads neither torch nor ray.
"""

from hmsa_label.lazy_names import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
