"""Every published name of a tensor, in one table.

Five layouts of the same weights are about: as published; with a cloned head; as
transformers 4.52 to 4.57 holds them in memory; as transformers 5 saves them (without
``vision_model.``) and holds them; all of them become the published names here, and the
rest of the project knows no others.
"""

import re

RENAMES = (
    (re.compile(r"^model\."), ""),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^language_model\.(?!model\.)"), "language_model.model."),
    (re.compile(r"^vision_tower\.(?!vision_model\.)"), "vision_tower.vision_model."),
)

# how a model in memory calls its modules: up to transformers 4.51, to 4.57, from 5 on
IN_MEMORY = (
    {"lm_head": "language_model.lm_head"},
    {
        "language_model.model.": "model.language_model.",
        "vision_tower.": "model.vision_tower.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
    {
        "language_model.model.": "model.language_model.",
        "vision_tower.vision_model.": "model.vision_tower.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
)

# buffers that a saver let slip in: they hold nothing learned
BUFFERS = re.compile(r"\.embeddings\.position_ids$|\.rotary_emb\.inv_freq$")
# SigLIP's pooling head: learned, and not part of PaliGemma
POOLING_HEAD = re.compile(r"^vision_tower\.vision_model\.head\.")
# no PaliGemma 1 has this, and every PaliGemma 2
GEMMA_2_ONLY = re.compile(r"\.pre_feedforward_layernorm\.weight$")

FAMILIES = ("PaliGemma 1", "PaliGemma 2")  # by whether there are post-norms
VISION = "vision_tower.vision_model."
PROJECTOR = "multi_modal_projector.linear"
DECODER = "language_model.model."
EMBEDDING = DECODER + "embed_tokens.weight"
HEAD = "lm_head.weight"


def canonical_name(name: str) -> str:
    """Turn any layout's name into the published one; each step at most once."""
    for pattern, replacement in RENAMES:
        name = pattern.sub(replacement, name, count=1)
    return name


def in_memory(module: str) -> list[str]:
    """Turn a module's published name into its paths in memory, as in `IN_MEMORY`."""
    paths = []
    for fronts in IN_MEMORY:
        front = next((f for f in fronts if module.startswith(f)), "")
        paths.append(fronts.get(front, "") + module.removeprefix(front))
    return paths
