"""Peer of the suite encoder-cuda: the FastConformer encoder of Parakeet and Cohere in PyTorch, random weights in bfloat16 on a GPU.

Written after `ParakeetEncoder` of transformers 5, with torch alone: the machine may lack transformers. Unlike there, embeddings of
positions are made once and projected once for the whole batch. `--check` compares the two.

Reads lines of JSON from standard input: {"config", "lengths", "mode", "repetitions"}, where `config` is a ParakeetEncoderConfig,
`lengths` are log-mel frames of sequences, which are padded to the longest, and `mode` is

    eager           as it is written
    graph           the same, replayed from a CUDA graph
    compiled        each block by torch.compile, for these lengths
    compiled-graph  the same, replayed from a CUDA graph

Answers each with the milliseconds of every forward pass, as a JSON list, or {"error"}.
"""
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.linear1 = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=c["attention_bias"])
        self.linear2 = nn.Linear(c["intermediate_size"], c["hidden_size"], bias=c["attention_bias"])

    def forward(self, x):
        return self.linear2(F.silu(self.linear1(x)))


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, hidden, bias = c["num_attention_heads"], c["hidden_size"], c["attention_bias"]
        self.head_dim = hidden // self.heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(hidden, hidden, bias=bias))
        self.relative_k_proj = nn.Linear(hidden, hidden, bias=False)
        self.bias_u = nn.Parameter(torch.zeros(self.heads, self.head_dim))
        self.bias_v = nn.Parameter(torch.zeros(self.heads, self.head_dim))

    def forward(self, x, positions, mask):
        """x (batch, frames, hidden); positions (2 frames - 1, hidden); mask (batch, 1, frames, frames), true where seen, or None"""
        batch, frames, _ = x.shape
        layers = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (layer(x).view(batch, frames, self.heads, self.head_dim).transpose(1, 2) for layer in layers)
        p = self.relative_k_proj(positions).view(-1, self.heads, self.head_dim).permute(1, 2, 0)  # (heads, head_dim, positions)
        scores = (q + self.bias_v[:, None]) @ p  # (batch, heads, frames, positions)
        count = scores.shape[-1]
        scores = F.pad(scores, (1, 0)).view(batch, self.heads, -1, frames)[:, :, 1:].view(batch, self.heads, frames, count)
        scores = scores[..., :frames] * self.head_dim**-0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        y = F.scaled_dot_product_attention(q + self.bias_u[:, None], k, v, attn_mask=scores, scale=self.head_dim**-0.5)
        return self.o_proj(y.transpose(1, 2).reshape(batch, frames, -1))


class Convolution(nn.Module):
    def __init__(self, c):
        super().__init__()
        hidden, kernel, bias = c["hidden_size"], c["conv_kernel_size"], c["convolution_bias"]
        self.pointwise_conv1 = nn.Conv1d(hidden, 2 * hidden, 1, bias=bias)
        self.depthwise_conv = nn.Conv1d(hidden, hidden, kernel, padding=(kernel - 1) // 2, groups=hidden, bias=bias)
        self.norm = nn.BatchNorm1d(hidden)
        self.pointwise_conv2 = nn.Conv1d(hidden, hidden, 1, bias=bias)

    def forward(self, x, seen):
        """seen (batch, 1, frames): false for padding, or None"""
        x = F.glu(self.pointwise_conv1(x.transpose(1, 2)), dim=1)
        if seen is not None:
            x = x.masked_fill(~seen, 0.0)
        return self.pointwise_conv2(F.silu(self.norm(self.depthwise_conv(x)))).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.feed_forward1, self.self_attn, self.conv, self.feed_forward2 = FeedForward(c), Attention(c), Convolution(c), FeedForward(c)
        for name in ("norm_feed_forward1", "norm_self_att", "norm_conv", "norm_feed_forward2", "norm_out"):
            setattr(self, name, nn.LayerNorm(c["hidden_size"]))

    def forward(self, x, positions, mask, seen):
        x = x + 0.5 * self.feed_forward1(self.norm_feed_forward1(x))
        x = x + self.self_attn(self.norm_self_att(x), positions, mask)
        x = x + self.conv(self.norm_conv(x), seen)
        x = x + 0.5 * self.feed_forward2(self.norm_feed_forward2(x))
        return self.norm_out(x)


class Subsampling(nn.Module):
    def __init__(self, c):
        super().__init__()
        channels = c["subsampling_conv_channels"]
        layers = [nn.Conv2d(1, channels, 3, stride=2, padding=1), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels), nn.Conv2d(channels, channels, 1), nn.ReLU()]
        self.layers = nn.ModuleList(layers)
        self.linear = nn.Linear(channels * (c["num_mel_bins"] // 8), c["hidden_size"])

    def forward(self, x, lengths):
        """x (batch, frames, mel bins); lengths (batch), or None: all frames; returns the hidden frames and their lengths"""
        x = x[:, None]
        for layer in self.layers:
            x = layer(x)
            if lengths is not None and isinstance(layer, nn.Conv2d):
                if layer.stride == (2, 2):
                    lengths = (lengths - 1) // 2 + 1
                x = x * (torch.arange(x.shape[2], device=x.device) < lengths[:, None])[:, None, :, None]
        return self.linear(x.transpose(1, 2).flatten(2)), lengths


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.subsampling = Subsampling(c)
        self.layers = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.scale = c["hidden_size"] ** 0.5 if c["scale_input"] else 1.0
        self.hidden = c["hidden_size"]
        self.tables = {}

    def positions(self, frames, like):
        if frames not in self.tables:
            frequencies = 10000.0 ** (-torch.arange(0, self.hidden, 2, dtype=torch.float32, device=like.device) / self.hidden)
            angles = torch.arange(frames - 1, -frames, -1, device=like.device)[:, None] * frequencies
            self.tables[frames] = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)
        return self.tables[frames]

    def forward(self, x, lengths):
        x, lengths = self.subsampling(x, lengths)
        x = x * self.scale
        mask = seen = None
        if lengths is not None:
            within = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
            seen, mask = within[:, None], within[:, None, None, :] & within[:, None, :, None]
        positions = self.positions(x.shape[1], x)
        for layer in self.layers:
            x = layer(x, positions, mask, seen)
        return x


class Peer:
    """One model at a time, and what was made of it for each shape."""

    def __init__(self):
        self.config = None

    def load(self, config):
        if config == self.config:
            return
        self.model = self.eager = None
        self.graphs, self.inputs, self.config = {}, {}, config
        torch.cuda.empty_cache()
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda"):
            self.model = Encoder(config).eval()
        torch.set_default_dtype(torch.float32)
        self.eager = list(self.model.layers)

    def input(self, lengths):
        if lengths not in self.inputs:
            x = torch.randn(len(lengths), max(lengths), self.config["num_mel_bins"], device="cuda", dtype=torch.bfloat16)
            ragged = torch.tensor(lengths, device="cuda") if min(lengths) < max(lengths) else None
            self.inputs[lengths] = (x, ragged)
        return self.inputs[lengths]

    def forward_pass(self, lengths, mode):
        x, ragged = self.input(lengths)
        compiled = mode.startswith("compiled")
        if compiled and not hasattr(self, "block"):
            self.block = torch.compile(Block.forward, dynamic=False)
        layers = self.model.layers
        for layer in layers:
            layer.forward = self.block.__get__(layer) if compiled else Block.forward.__get__(layer)
        run = lambda: self.model(x, ragged)  # noqa: E731
        if not mode.endswith("graph"):
            return run
        if (lengths, mode) not in self.graphs:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    run()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                run()
            self.graphs[lengths, mode] = graph
        return self.graphs[lengths, mode].replay

    @torch.inference_mode()
    def times(self, config, lengths, mode, repetitions):
        self.load(config)
        run = self.forward_pass(tuple(lengths), mode)
        times = []
        for _ in range(repetitions):
            begin = time.perf_counter()
            run()
            torch.cuda.synchronize()
            times.append((time.perf_counter() - begin) * 1000)
        return times


def check():
    """Against transformers, small, on the CPU."""
    from transformers import ParakeetEncoder, ParakeetEncoderConfig

    c = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, conv_kernel_size=9, num_mel_bins=32,
             subsampling_conv_channels=16, attention_bias=True, convolution_bias=True, scale_input=True)
    theirs = ParakeetEncoder(ParakeetEncoderConfig(**c)).eval()
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.2)
    ours = Encoder(c).eval()
    ours.load_state_dict(theirs.state_dict())
    x, lengths = torch.randn(2, 90, 32), torch.tensor([90, 57])
    with torch.inference_mode():
        expected = theirs(input_features=x, attention_mask=torch.arange(90) < lengths[:, None]).last_hidden_state
        y = ours(x, lengths)
    for row, frames in enumerate([12, 8]):
        difference = (y[row, :frames] - expected[row, :frames]).abs().max().item()
        assert difference < 1e-4, f"sequence {row} differs by {difference}"
    print("agrees with transformers")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    peer = Peer()
    torch.zeros(1, device="cuda")
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        try:
            answer = peer.times(**json.loads(line))
        except Exception as error:  # the suite goes on with its other rows
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)
