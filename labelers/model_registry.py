"""Models that can be trained, by name: of this package, of installed packages, and `module:Class` of anybody's own.

The class is called with the name and gives a `labelers.training.TrainableModel`.
"""

from importlib.metadata import entry_points

from hmsa_label.labelers.registry import attribute_at
from hmsa_label.labelers.training import IMAGE, PANOPTIC, SEMANTIC, TrainableModel

GROUP = "hmsa_label.models"  # entry points: name = module:Class
_HMSA = "hmsa_label.labelers.hmsa.training.model:HmsaModel"
_TRUNK = "hmsa_label.labelers.axial_deeplab.classification.model:TrunkModel"
_AXIAL = "hmsa_label.labelers.axial_deeplab.training.model:AxialDeepLabModel"
MODELS = {
    **dict.fromkeys((
        "hrnet_w48_ocr", "hrnet_w18_ocr", "hrnet_s_ocr", "hrnet_s_ocr_explicit", "hrnet_tiny_ocr",
        "hrnet_tiny_ocr_explicit", "deeplabv3plus_r50", "deeplabv3plus_r50_explicit",
        "deeplabv3plus_r50_explicit_plain",
    ), _HMSA),
    **dict.fromkeys((
        "axial_deeplab_s", "axial_deeplab_m", "axial_deeplab_l", "axial_deeplab_xl", "axial_deeplab_26s",
        "axial_deeplab_hybrid_l", "axial_deeplab_hybrid_s", "axial_deeplab_tiny", "panoptic_deeplab_r50",
        "panoptic_deeplab_s", "panoptic_deeplab_tiny",
    ), _AXIAL),
    **dict.fromkeys((
        "axial_resnet_s", "axial_resnet_m", "axial_resnet_l", "axial_resnet_xl", "axial_resnet_26s",
        "axial_resnet_hybrid_l", "axial_resnet_hybrid_s", "axial_resnet_tiny", "conv_resnet_r50", "conv_resnet_s",
        "conv_resnet_tiny",
    ), _TRUNK),
}  # fmt: skip

SMALL_MODELS = {
    SEMANTIC: "hrnet_s_ocr",
    PANOPTIC: "axial_deeplab_hybrid_s",
    IMAGE: "axial_resnet_hybrid_s",
}  # that train on a CPU, by what they learn from


def model_places() -> dict[str, str]:
    """`module:Class` of every model that is installed, by name."""
    return {**{entry.name: entry.value for entry in entry_points(group=GROUP)}, **MODELS}


def find_model(name: str) -> TrainableModel:
    """The model of a name; its module is imported.

    The name comes from a command line or a config, or is one of `model_places`: importing a module runs its code.

    Raises:
        ValueError: nobody knows it, it cannot be imported, or what is there cannot be trained.
    """
    places = model_places()
    place = name if name.count(":") == 1 else places.get(name)
    if place is None:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(sorted(places))}")
    found = attribute_at(place, f"the model {name}")
    if not callable(getattr(found, "objective", None)):
        raise ValueError(f"the model {name} cannot be trained: {found.__name__} has no method objective")
    model: TrainableModel = found(name)
    return model
