"""Writes a model folder in the layout of transformers."""
import dataclasses
import json
import os
import shutil

import torch
from safetensors.torch import load_file, save_file

from model import LasrForCTC, Sizes

FIRST_LAYER = "encoder.subsampler.dense_0."
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")


def export(model: LasrForCTC, mean, deviation, vocabulary: int, tokenizer: str, out: str):
    """With normalization of features folded into the first layer; the folder appears at once. Raises ValueError for NaN."""
    state = {name: tensor.detach().float().cpu() for name, tensor in model.state_dict().items()}
    weights = {name: tensor for name, tensor in state.items() if not name.startswith("inner_head")}
    mean, deviation = mean.cpu(), deviation.cpu()
    weights[FIRST_LAYER + "weight"] = weights[FIRST_LAYER + "weight"] / deviation
    weights[FIRST_LAYER + "bias"] = weights[FIRST_LAYER + "bias"] - weights[FIRST_LAYER + "weight"] @ mean
    for name in weights:
        weights[name] = weights[name].long() if name.endswith("num_batches_tracked") else weights[name].contiguous()
        if not torch.isfinite(weights[name]).all():
            raise ValueError(f"{name} is not finite")
    sizes = {
        field.name: getattr(model.sizes, field.name)
        for field in dataclasses.fields(Sizes) if field.metadata.get("exported", True)
    }
    config = {
        "architectures": ["LasrForCTC"], "model_type": "lasr_ctc", "dtype": "float32", "vocab_size": vocabulary,
        "pad_token_id": 0, "ctc_loss_reduction": "mean", "ctc_zero_infinity": True,
        "encoder_config": {"model_type": "lasr_encoder", "layerdrop": 0.0, **sizes},
    }
    temporary = out + ".part"
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    for file in TOKENIZER_FILES:
        shutil.copy(os.path.join(tokenizer, file), temporary)
    with open(os.path.join(temporary, "config.json"), "w") as file:
        json.dump(config, file, indent=2)
    save_file(weights, os.path.join(temporary, "model.safetensors"), {"format": "pt"})
    shutil.rmtree(out, ignore_errors=True)
    os.rename(temporary, out)


def start_from(folder: str, model: LasrForCTC, mean, deviation):
    """The inverse of what `export` does to the first layer; the head of the inner loss stays random. Raises ValueError."""
    path = os.path.join(folder, "model.safetensors")
    weights = {name: tensor.float().to(mean.device) for name, tensor in load_file(path).items()}
    weights[FIRST_LAYER + "bias"] = weights[FIRST_LAYER + "bias"] + weights[FIRST_LAYER + "weight"] @ mean
    weights[FIRST_LAYER + "weight"] = weights[FIRST_LAYER + "weight"] * deviation
    missing, unexpected = model.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.startswith("inner_head") and not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"{path} is not a model of these sizes: it lacks {missing[:3]}, and {unexpected[:3]} are not known")
