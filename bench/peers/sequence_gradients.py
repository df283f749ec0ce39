"""Loss and gradients of one training step of a sequence-to-sequence model in transformers, as JSON for tests: of each parameter the norm of
its gradient and the sum of its elements times cos(index).

usage: python bench/peers/sequence_gradients.py MODEL_FOLDER TOKENS.. ; TOKENS is one comma-separated sequence for each item of
expected.safetensors, from the token that begins everything to the one that ends it. PROMPT=N: the first N labels do not count.
"""
import json
import os
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSpeechSeq2Seq

folder, *texts = sys.argv[1:]
prompt = int(os.environ.get("PROMPT", "0"))
model = AutoModelForSpeechSeq2Seq.from_pretrained(folder, dtype=torch.float32).eval()
expected = load_file(os.path.join(folder, "expected.safetensors"))
sequences = [[int(token) for token in text.split(",")] for text in texts]
length = max(map(len, sequences)) - 1
pad = model.config.pad_token_id or 0
inputs = torch.tensor([tokens[:-1] + [pad] * (length + 1 - len(tokens)) for tokens in sequences])
labels = torch.tensor([[-100] * prompt + tokens[1 + prompt :] + [-100] * (length + 1 - len(tokens)) for tokens in sequences])
mask = {"attention_mask": expected["attention_mask"]} if "attention_mask" in expected else {}
model.zero_grad()
loss = model(input_features=expected["input_features"], decoder_input_ids=inputs, labels=labels, **mask).loss
loss.backward()
gradients = {}
for name, parameter in model.named_parameters():
    if parameter.grad is None:
        continue
    gradient = parameter.grad.flatten().double()
    wave = torch.cos(torch.arange(gradient.numel(), dtype=torch.float64))
    gradients[name] = [float(f"{value.item():.6g}") for value in (gradient.norm(), (gradient * wave).sum())]
result = {"tokens": sequences, "prompt": prompt, "loss": float(f"{loss.item():.7g}"), "gradients": gradients}
print(json.dumps(result, indent=1).replace("[\n   ", "[").replace("\n  ]", "]").replace(",\n   ", ", "))
