"""Peer of the suite train-step: one optimizer step of transformers' LasrForCTC, padded batches, as PyTorch users run it.

Reads lines "REPETITIONS" from standard input and answers each with the milliseconds of every step as a JSON list.
usage: train_step.py THREADS HIDDEN LAYERS VOCABULARY SECONDS...
"""
import json
import sys
import time

import torch
from transformers import LasrCTCConfig, LasrForCTC

threads, hidden, layers, vocabulary, *seconds = map(int, sys.argv[1:])
torch.set_num_threads(threads)
torch.manual_seed(1)
config = LasrCTCConfig(
    vocab_size=vocabulary,
    encoder_config=dict(
        hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers, num_attention_heads=4,
        conv_kernel_size=15, subsampling_conv_channels=min(hidden, 256), layerdrop=0.0,
    ),
)
model = LasrForCTC(config).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
lengths = [100 * s for s in seconds]
features = torch.randn(len(lengths), max(lengths), 128)
mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
labels = torch.stack([1 + (torch.arange(40) * 7 + i) % (vocabulary - 1) for i in range(len(lengths))])
print(json.dumps({"torch": torch.__version__, "parameters": sum(p.numel() for p in model.parameters())}), flush=True)
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        begin = time.perf_counter()
        loss = model(input_features=features, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append((time.perf_counter() - begin) * 1000)
    print(json.dumps(times), flush=True)
