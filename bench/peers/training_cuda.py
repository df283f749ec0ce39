"""Peer of the suite training-cuda: a training step of a Conformer with CTC loss in PyTorch on a GPU, as its users write quantization-aware
training: float32 masters, autocast to bfloat16, fake quantization of masked weights by a straight-through estimator, AdamW in one kernel.

The network is that of LASR (rotary positions, batch normalization); batches are padded to the longest. Reads lines of JSON from standard
input: {"config", "vocabulary", "lengths", "labels", "mode", "repetitions"} with an encoder's configuration, log-mel frames of the sequences,
labels of each, and the mode "eager" or "compiled" (each block by torch.compile). Answers each with {"times": milliseconds of every step,
"peakBytes", "parameters"} or {"error"}.
"""
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


def mask_2_4(weight):
    groups = weight.reshape(-1, 4).abs()
    kept = torch.zeros_like(groups).scatter_(1, groups.topk(2, dim=1).indices, 1.0)
    return kept.reshape(weight.shape)


class QuantizedLinear(nn.Module):
    """int4 with the largest kept weight of a channel as the highest level; gradients pass straight through the rounding."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.xavier_uniform_(self.weight)
        self.register_buffer("mask", mask_2_4(self.weight.detach()))

    def forward(self, x):
        masked = self.weight * self.mask
        scale = masked.abs().amax(dim=1, keepdim=True) / 7
        quantized = (masked / scale).round().clamp(-7, 7) * scale
        return F.linear(x, masked + (quantized - masked).detach())


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, inner = c["hidden_size"], c["intermediate_size"]
        self.heads, self.kernel, self.c = c["num_attention_heads"], c["conv_kernel_size"], c
        self.ff1a, self.ff1b = QuantizedLinear(h, inner), QuantizedLinear(inner, h)
        self.ff2a, self.ff2b = QuantizedLinear(h, inner), QuantizedLinear(inner, h)
        self.q, self.k, self.v, self.o = (QuantizedLinear(h, h) for _ in range(4))
        self.pointwise1, self.pointwise2 = QuantizedLinear(h, 2 * h), QuantizedLinear(h, h)
        self.depthwise = nn.Conv1d(h, h, self.kernel, groups=h, bias=False)
        self.batch_norm = nn.BatchNorm1d(h, momentum=0.01)
        self.norms = nn.ModuleList(nn.LayerNorm(h, bias=False, eps=1e-6) for _ in range(5))

    def feed_forward(self, x, first, second):
        return second(F.dropout(F.silu(first(x)), self.c["activation_dropout"]))

    def forward(self, x, cos, sin, mask, seen):
        batch, frames, hidden = x.shape
        x = 1.5 * x + 0.5 * self.feed_forward(self.norms[0](x), self.ff1a, self.ff1b)
        y = self.norms[1](x)
        q, k, v = (layer(y).view(batch, frames, self.heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask, dropout_p=self.c["attention_dropout"])
        x = x + self.o(y.transpose(1, 2).reshape(batch, frames, hidden))
        y = F.glu(self.pointwise1(self.norms[2](x)), dim=-1) * seen
        y = F.pad(y.transpose(1, 2), ((self.kernel - 1) // 2, self.kernel // 2))
        y = F.silu(self.batch_norm(self.depthwise(y))).transpose(1, 2)
        x = 2 * x + self.pointwise2(y)
        x = 1.5 * x + 0.5 * self.feed_forward(self.norms[3](x), self.ff2a, self.ff2b)
        return self.norms[4](x)


class Model(nn.Module):
    def __init__(self, c, vocabulary):
        super().__init__()
        h, channels = c["hidden_size"], c["subsampling_conv_channels"]
        kernel, stride = c["subsampling_conv_kernel_size"], c["subsampling_conv_stride"]
        self.c, self.head_dim = c, h // c["num_attention_heads"]
        self.dense0, self.dense1 = nn.Linear(c["num_mel_bins"], h), nn.Linear(channels, h)
        self.convolutions = nn.ModuleList([nn.Conv1d(h, h, kernel, stride), nn.Conv1d(h, channels, kernel, stride)])
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.norm, self.head = nn.LayerNorm(h, bias=False, eps=1e-6), nn.Linear(h, vocabulary)

    def forward(self, x, lengths, block):
        x = F.relu(self.dense0(x)).transpose(1, 2)
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
            lengths = (lengths - convolution.kernel_size[0]) // convolution.stride[0] + 1
        x = F.dropout(self.dense1(x.transpose(1, 2)), self.c["dropout"])
        frames = x.shape[1]
        seen = torch.arange(frames, device=x.device) < lengths[:, None]
        frequencies = 10000.0 ** (-torch.arange(0, self.head_dim, 2, device=x.device) / self.head_dim)
        positions = torch.arange(frames, device=x.device)[:, None] * frequencies
        angles = torch.cat([positions, positions], dim=-1)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.blocks:
            x = block(layer, x, cos, sin, seen[:, None, None, :], seen[:, :, None])
        return self.head(self.norm(x)), lengths


class Peer:
    def __init__(self):
        self.key = None

    def load(self, config, vocabulary, lengths, labels, mode):
        if self.key == (str(config), mode):
            return
        self.key = (str(config), mode)
        self.model = self.optimizer = None
        torch.cuda.empty_cache()
        with torch.device("cuda"):
            self.model = Model(config, vocabulary).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.features = torch.randn(len(lengths), max(lengths), config["num_mel_bins"], device="cuda")
        self.lengths = torch.tensor(lengths, device="cuda")
        self.labels = torch.nn.utils.rnn.pad_sequence([torch.tensor(l, device="cuda") for l in labels], batch_first=True)
        self.label_lengths = torch.tensor([len(l) for l in labels], device="cuda")
        self.block = torch.compile(Block.forward, dynamic=False) if mode == "compiled" else Block.forward

    def step(self):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits, lengths = self.model(self.features, self.lengths, self.block)
        loss = F.ctc_loss(logits.float().log_softmax(-1).transpose(0, 1), self.labels, lengths, self.label_lengths, zero_infinity=True)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def times(self, config, vocabulary, lengths, labels, mode, repetitions):
        self.load(config, vocabulary, lengths, labels, mode)
        torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(repetitions):
            begin = time.perf_counter()
            self.step()
            torch.cuda.synchronize()
            times.append((time.perf_counter() - begin) * 1000)
        parameters = sum(p.numel() for p in self.model.parameters())
        return {"times": times, "peakBytes": torch.cuda.max_memory_allocated(), "parameters": parameters}


if __name__ == "__main__":
    peer = Peer()
    torch.zeros(1, device="cuda")
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        try:
            answer = peer.times(**json.loads(line))
        except Exception as error:  # the suite goes on with its other rows
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)
