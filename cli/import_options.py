"""The options of an import: which files hold labels that were made elsewhere, and what is in them."""

from hmsa_label.cli.given import Setting
from hmsa_label.pipeline import IDS, IMPORT_FORMATS

IMPORT = (
    Setting("labels", "LABELS", ""),
    Setting("format", "--format", "Whose files these are; masks have a class and a score.", IMPORT_FORMATS),
    Setting("label_files", "--label-files",
            "Where class maps are below LABELS, with {name} for that of an image.  [default: {name}.png]"),
    Setting("confidence_files", "--confidence-files",
            "The same of confidences: gray PNG or .npy.  [default: none; nvidia: {name}_prob.png]"),
    Setting("ids", "--ids", "What the numbers in class maps are.  [default: raw; paddleseg: train]", IDS),
    Setting("classes", "--classes", "cityscapes, or a JSON file of class names.  [default: those of the data]"),
    Setting("images_json", "--images-json", "COCO file with the images and categories that results name by id."),
    Setting("made_by", "--made-by", "What is known of where the labels come from; recorded."),
    Setting("storage_options", "--labels-options", "fsspec options of LABELS' storage; not on the command line."),
)  # fmt: skip
