"""
Makes a deeper model of a trained one: new blocks that change almost nothing yet, between the trained ones. Training goes on from there.

usage: grow.py MODEL OUT BLOCKS    model folders in the layout of transformers; OUT has BLOCKS Conformer blocks
The layers of a new block that write to the residual stream begin at zero (as in Net2Net, Chen et al. 2016); what remains of the block is its last
layer norm, which has the scale of the values that come in.
"""
import json
import os
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

PREFIX = "encoder.layers."
WRITERS = ("feed_forward1.linear2.weight", "feed_forward2.linear2.weight", "self_attn.o_proj.weight", "conv.pointwise_conv2.weight")


def positions(trained: int, blocks: int) -> list:
    """For each block of the deeper model the number of its trained block, or None; the new ones are spread between them."""
    order, new = [], blocks - trained
    for number in range(trained):
        order.append(number)
        wanted = round(new * (number + 1) / max(1, trained - 1))  # after this block
        order += [None] * (min(new, wanted) - order.count(None))
    return order


def fresh_block(block: dict, incoming: torch.Tensor) -> dict:
    """Weights of a new block. `incoming`: weight of the layer norm before it."""
    fresh = {}
    for name, weight in block.items():
        if name in WRITERS:
            fresh[name] = torch.zeros_like(weight)
        elif name == "norm_out.weight":
            fresh[name] = torch.full_like(weight, float(incoming.pow(2).mean().sqrt()))
        elif name.startswith("norm_") or name in ("conv.norm.weight", "conv.norm.running_var"):
            fresh[name] = torch.ones_like(weight)
        elif weight.dim() < 2:
            fresh[name] = torch.zeros_like(weight)
        elif "depthwise" in name:
            bound = weight[0].numel() ** -0.5
            fresh[name] = torch.empty_like(weight).uniform_(-bound, bound)
        else:
            fresh[name] = torch.nn.init.xavier_uniform_(torch.empty_like(weight))
    return fresh


def grow(model: str, out: str, blocks: int):
    torch.manual_seed(1)
    weights = {name: weight.float() if weight.is_floating_point() else weight for name, weight in load_file(os.path.join(model, "model.safetensors")).items()}
    trained = 1 + max(int(name[len(PREFIX):].split(".")[0]) for name in weights if name.startswith(PREFIX))
    if blocks < trained:
        sys.exit(f"{model} has {trained} blocks already")
    of_block = lambda number: {
        name[len(f"{PREFIX}{number}."):]: weight for name, weight in weights.items() if name.startswith(f"{PREFIX}{number}.")
    }
    grown = {name: weight for name, weight in weights.items() if not name.startswith(PREFIX)}
    incoming = None
    for number, source in enumerate(positions(trained, blocks)):
        block = of_block(source) if source is not None else fresh_block(of_block(0), incoming)
        incoming = block["norm_out.weight"]
        grown.update({f"{PREFIX}{number}.{name}": weight.contiguous().clone() for name, weight in block.items()})
    shutil.copytree(model, out, ignore=shutil.ignore_patterns("model.safetensors"), dirs_exist_ok=True)
    save_file(grown, os.path.join(out, "model.safetensors"), {"format": "pt"})
    config_path = os.path.join(out, "config.json")
    with open(config_path) as file:
        config = json.load(file)
    config["encoder_config"]["num_hidden_layers"] = blocks
    with open(config_path, "w") as file:
        json.dump(config, file, indent=2)


if __name__ == "__main__":
    grow(sys.argv[1], sys.argv[2], int(sys.argv[3]))
