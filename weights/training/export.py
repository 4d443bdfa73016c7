"""Write a folder in Hugging Face form, as the published PaliGemma checkpoints have it."""

import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file

from numpy_paligemma.checkpoints.mask_decoder import FILE as MASK_DECODER

from .layers import Sizes
from .learner import Learner
from .optimiser import Optimiser
from .scenes import GRID, PATCH, SIZE
from .tokenizer import BOS, EOS, IMAGE_ID, PAD
from .tokenizer_files import tokenizer_config, tokenizer_json
from .vqvae import VQVAE, export_decoder, load_vqvae


def export(checkpoints: list[Path], tokenizer: Path, folder: Path) -> None:
    """Write weights, mask decoder, configuration and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(tokenizer.read_bytes())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    documents = {
        "config": config(Sizes()),
        "generation_config": {"bos_token_id": BOS, "eos_token_id": EOS}
        | {"pad_token_id": PAD},
        "preprocessor_config": preprocessor_config(),
        "tokenizer": tokenizer_json(pieces),
        "tokenizer_config": tokenizer_config(),
    }
    for name, document in documents.items():
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    file = folder / "model.safetensors"
    vae = load_vqvae(checkpoints[0].parent / "vae.pt")
    save_file(weights(checkpoints, vae), file, {"format": "pt"})
    file.chmod(0o644)
    export_decoder(vae, folder / MASK_DECODER)


def weights(checkpoints: list[Path], vae: VQVAE) -> dict[str, torch.Tensor]:
    """Return the mean of the averaged weights in bfloat16, heads left out."""
    learner = Learner(Sizes(), vae.codebook)
    averages = [torch.load(checkpoint)["average"] for checkpoint in checkpoints]
    Optimiser(learner).values.copy_(torch.stack(averages).mean(0))
    state = learner.model.state_dict()
    return {name: p.to(torch.bfloat16).contiguous() for name, p in state.items()}


def config(c: Sizes) -> dict[str, Any]:
    """Describe the model."""
    vision = {
        "model_type": "siglip_vision_model",
        "image_size": SIZE,
        "patch_size": PATCH,
        "num_channels": 3,
        "hidden_size": c.width,
        "intermediate_size": c.vision_mlp,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_image_tokens": c.patches,
        "projection_dim": c.width,
        "projector_hidden_act": "gelu_fast",
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": c.eps,
        "vision_use_head": False,
    }
    text = {
        "model_type": "gemma",
        "vocab_size": c.rows,
        "hidden_size": c.width,
        "intermediate_size": c.text_mlp,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": 1,
        "num_image_tokens": c.patches,
        "head_dim": c.head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 512,
        "rms_norm_eps": c.eps,
        "rope_theta": c.rope_base,
    }
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "model_type": "paligemma",
        "vocab_size": c.rows,
        "hidden_size": c.width,
        "projection_dim": c.width,
        "image_token_index": IMAGE_ID,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "torch_dtype": "bfloat16",
        "vision_config": vision,
        "text_config": text,
    }


def preprocessor_config() -> dict[str, Any]:
    """Describe how pixels are prepared: bicubic to 112, then to [-1, 1]."""
    return {
        "image_processor_type": "SiglipImageProcessor",
        "processor_class": "PaliGemmaProcessor",
        "do_convert_rgb": None,
        "do_resize": True,
        "size": {"height": SIZE, "width": SIZE},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "image_seq_length": GRID * GRID,
    }
