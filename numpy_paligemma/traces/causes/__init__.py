"""Known mistakes, each as something that can be replayed and held against a trace."""

from numpy_paligemma.traces.causes.attention import ATTENTION
from numpy_paligemma.traces.causes.bridge import BRIDGE
from numpy_paligemma.traces.causes.eye import EYE
from numpy_paligemma.traces.causes.feeding import FEEDING
from numpy_paligemma.traces.causes.loading import LOADING
from numpy_paligemma.traces.causes.masks import MASKS
from numpy_paligemma.traces.causes.norms import NORMS
from numpy_paligemma.traces.causes.projections import PROJECTIONS
from numpy_paligemma.traces.causes.rotation import ROTATION
from numpy_paligemma.traces.causes.streams import STREAMS
from numpy_paligemma.traces.causes.variant import Variant

VARIANTS: tuple[Variant, ...] = (
    *EYE,
    *BRIDGE,
    *MASKS,
    *NORMS,
    *LOADING,
    *ROTATION,
    *PROJECTIONS,
    *ATTENTION,
    *FEEDING,
    *STREAMS,
)
