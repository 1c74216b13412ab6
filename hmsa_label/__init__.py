"""hmsa-label: weakly labeled driving images into versioned, auditable training data.

The public library. Its names are listed in `__init__.pyi`, and each is imported when it is first used, so that
`import hmsa_label` loads neither torch nor Ray.
"""

from hmsa_label.lazy_names import lazy_names

_name, __dir__, __all__ = lazy_names(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from hmsa_label.pipeline.software import package_version

        return package_version()
    return _name(name)
