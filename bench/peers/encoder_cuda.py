"""Peer of the suite encoder-cuda: transformers' LasrForCTC with random weights in bfloat16 on a GPU.

Reads lines "BATCH FRAMES REPETITIONS" from standard input; answers each with the milliseconds of every forward pass over
BATCH sequences of FRAMES log-mel frames, as a JSON list.
usage: encoder_cuda.py CONFIG (config.json as one word)
"""
import json
import sys
import time

import torch
from transformers import AutoConfig, LasrForCTC

described = json.loads(sys.argv[1])
config = AutoConfig.for_model(described.pop("model_type"), **described)
with torch.device("cuda"):
    model = LasrForCTC(config).to(torch.bfloat16).eval()
inputs = {}


@torch.inference_mode()
def forward(batch, frames):
    key = (batch, frames)
    if key not in inputs:
        inputs[key] = torch.randn(batch, frames, config.encoder_config.num_mel_bins, device="cuda", dtype=torch.bfloat16)
    model(input_features=inputs[key])
    torch.cuda.synchronize()


print(json.dumps({"torch": torch.__version__}), flush=True)
for line in sys.stdin:
    batch, frames, repetitions = (int(word) for word in line.split())
    times = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        forward(batch, frames)
        times.append((time.perf_counter() - begin) * 1000)
    print(json.dumps(times), flush=True)
