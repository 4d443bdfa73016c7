"""PaliGemma in plain NumPy: a picture and a prompt in, text out."""

from numpy_paligemma.inputs.processing import PaliGemmaProcessor
from numpy_paligemma.loading import answer, load_hf_model
from numpy_paligemma.paligemma import PaliGemma

__version__ = "0.1.0"
__all__ = ["PaliGemma", "PaliGemmaProcessor", "__version__", "answer", "load_hf_model"]
