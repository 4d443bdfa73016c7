"""What `generation_config.json` asks of an answer and is not done here, told in a line."""

import logging
from os.path import lexists
from pathlib import Path

from numpy_paligemma.checkpoints.fields import read_json

log = logging.getLogger(__name__)

# what moves transformers' greedy answer, and at which number it moves nothing; null and
# empty never do. Source: transformers, generation/configuration_utils.py
NEUTRAL = {
    "repetition_penalty": 1,
    "encoder_repetition_penalty": 1,
    "guidance_scale": 1,
    "num_beams": 1,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "penalty_alpha": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "stop_strings": None,
    "watermarking_config": None,
    "dola_layers": None,
}


def warn_of_generation(folder: Path) -> None:
    """Warn of the fields that would change the likeliest answer and are not followed.

    Raises
    ------
    ValueError
        If the file is broken, in one line.
    """
    path = folder / "generation_config.json"
    fields = read_json(path) if lexists(path) else {}
    ignored = [
        name
        for name, neutral in NEUTRAL.items()
        if fields.get(name) not in (None, neutral, [], {})
    ]
    if ignored:
        log.warning(
            "warning: %s: %s is not followed here; transformers' answers may differ",
            *(path, ", ".join(ignored)),
        )
