"""What the command line uses beside the library."""

from hmsa_label.labelers.hmsa.training.settings import AUX_LOSSES as AUX_LOSSES
from hmsa_label.labelers.hmsa.training.settings import LOSSES as LOSSES
from hmsa_label.labelers.registry import DEFAULT_TEACHER as DEFAULT_TEACHER
from hmsa_label.labelers.registry import declared_options as declared_options
from hmsa_label.pipeline.config import DATASETS as DATASETS
from hmsa_label.pipeline.config import EVIDENCE as EVIDENCE
from hmsa_label.pipeline.config import EXECUTORS as EXECUTORS
from hmsa_label.pipeline.config import EXPORT_LAYOUTS as EXPORT_LAYOUTS
from hmsa_label.pipeline.config import ON_ERROR as ON_ERROR
from hmsa_label.pipeline.config import PRECISIONS as PRECISIONS
from hmsa_label.pipeline.import_config import IDS as IDS
from hmsa_label.pipeline.import_config import IMPORT_FORMATS as IMPORT_FORMATS
from hmsa_label.pipeline.interrupt import threads_left as threads_left
from hmsa_label.pipeline.monitor.progress import open_display as open_display
from hmsa_label.pipeline.rule_presets import PRESETS as PRESETS
from hmsa_label.pipeline.rule_values import POLYGON_MODES as POLYGON_MODES
from hmsa_label.pipeline.rules import SCORES as SCORES
from hmsa_label.pipeline.training.config import OPTIMIZERS as OPTIMIZERS
from hmsa_label.pipeline.training.config import SCHEDULES as SCHEDULES
from hmsa_label.pipeline.training.progress import open_training_display as open_training_display
from hmsa_label.pipeline.wording import counted as counted
from hmsa_label.stores.credentials import hide_in_text as hide_in_text
from hmsa_label.stores.credentials import missing_credentials as missing_credentials
from hmsa_label.stores.errors import is_network_trouble as is_network_trouble
