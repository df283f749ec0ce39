"""Peer of the suite transcribe: transformers' LasrForCTC on recorded features, at its fastest settings for the CPU.

Reads lines "SPEC BATCH REPETITIONS" from standard input, BATCH the utterances of one call: 1, or all of them padded to
the longest. Answers each with the milliseconds of every pass over all utterances, as a JSON list.
usage: transcribe.py THREADS MODEL_FOLDER FEATURES (safetensors with input_features and attention_mask)
"""
import json
import sys
import time

import torch
from safetensors.torch import load_file
from transformers import LasrForCTC

threads, folder, recorded = sys.argv[1:]
torch.set_num_threads(int(threads))


def load():
    return LasrForCTC.from_pretrained(folder, dtype=torch.float32).eval()


# The 1x1 convolutions are no linear layers to PyTorch: they stay float32.
models = {
    "float32": load(),
    "int8-dynamic": torch.ao.quantization.quantize_dynamic(load(), {torch.nn.Linear}, dtype=torch.qint8),
}
inputs = load_file(recorded)
features, mask = inputs["input_features"], inputs["attention_mask"]
lengths = mask.sum(dim=1).tolist()
calls = {
    1: [dict(input_features=features[i : i + 1, :length].contiguous()) for i, length in enumerate(lengths)],
    len(lengths): [dict(input_features=features, attention_mask=mask.bool())],
}


@torch.inference_mode()
def transcribe(model, batch):
    return [model(**call).logits for call in calls[batch]]


def frames_that_agree(spec):
    """Share of the frames of the one-by-one pass whose best token is that of the reference in the file."""
    tokens = torch.cat([logits[0].argmax(dim=1) for logits in transcribe(models[spec], 1)])
    return (tokens == inputs["tokens"]).float().mean().item()


agreement = {spec: frames_that_agree(spec) for spec in models}
print(json.dumps({"torch": torch.__version__, "agreement": agreement}), flush=True)
for line in sys.stdin:
    spec, batch, repetitions = line.split()
    times = []
    for _ in range(int(repetitions)):
        begin = time.perf_counter()
        transcribe(models[spec], int(batch))
        times.append((time.perf_counter() - begin) * 1000)
    print(json.dumps(times), flush=True)
