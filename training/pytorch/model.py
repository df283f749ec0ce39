"""LasrForCTC in plain PyTorch: the names and the arithmetic of transformers' models/lasr, which usm-lite shares.

Unlike there, training may drop residual branches, and statistics of batch normalization leave padding out.
"""
import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

SUBSAMPLING_KERNEL = 5
SUBSAMPLING_STRIDE = 2
LAYER_NORM_EPSILON = 1e-6
ROPE_THETA = 10000.0
FEED_FORWARD_RESIDUAL = (1.5, 0.5)
CONVOLUTION_RESIDUAL = (2.0, 1.0)


@dataclass
class Sizes:
    """Keys of encoder_config in config.json, and what only training needs."""

    hidden_size: int = 256
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    conv_kernel_size: int = 15
    subsampling_conv_channels: int = 256
    num_mel_bins: int = 128
    dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    batch_norm_momentum: float = 0.02
    residual_dropout: float = field(default=0.1, metadata={"exported": False})
    plain: bool = field(default=False, metadata={"exported": False})  # nothing is dropped, whatever the probabilities say


def drop(x, probability: float, module: nn.Module):
    return F.dropout(x, probability, module.training and not module.sizes.plain)


def hidden_length(frames):
    """Hidden frames made of log-mel frames; of a number or of an array."""
    for _ in range(2):
        frames = (frames - SUBSAMPLING_KERNEL) // SUBSAMPLING_STRIDE + 1
    return frames


def real_frames(lengths, frames: int):
    """(sequences, frames, 1): which frames of a padded batch are real. `lengths` (sequences) on the device."""
    return (torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None])[:, :, None]


def strided_convolution(convolution: nn.Conv1d, x):
    """(sequences, frames, channels), as a matrix product."""
    windows = x.unfold(1, SUBSAMPLING_KERNEL, SUBSAMPLING_STRIDE).flatten(2)  # (sequences, hidden frames, channels * kernel)
    return F.linear(windows, convolution.weight.flatten(1), convolution.bias)


class Subsampler(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        hidden, channels = sizes.hidden_size, sizes.subsampling_conv_channels
        self.dense_0 = nn.Linear(sizes.num_mel_bins, hidden)
        self.conv_0 = nn.Conv1d(hidden, hidden, SUBSAMPLING_KERNEL, SUBSAMPLING_STRIDE)
        self.conv_1 = nn.Conv1d(hidden, channels, SUBSAMPLING_KERNEL, SUBSAMPLING_STRIDE)
        self.dense_1 = nn.Linear(channels, hidden)

    def forward(self, features):
        x = F.relu(self.dense_0(features))
        x = F.relu(strided_convolution(self.conv_0, x))
        x = F.relu(strided_convolution(self.conv_1, x))
        return self.dense_1(x)


class FeedForward(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.linear1 = nn.Linear(sizes.hidden_size, sizes.intermediate_size, bias=False)
        self.linear2 = nn.Linear(sizes.intermediate_size, sizes.hidden_size, bias=False)
        self.sizes = sizes

    def forward(self, x):
        return self.linear2(drop(F.silu(self.linear1(x)), self.sizes.activation_dropout, self))


class SelfAttention(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        hidden = sizes.hidden_size
        self.heads = sizes.num_attention_heads
        self.sizes = sizes
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj = nn.Linear(hidden, hidden, bias=False)
        self.v_proj = nn.Linear(hidden, hidden, bias=False)
        self.o_proj = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x, real, rotary):
        batch, frames, hidden = x.shape
        split = (batch, frames, self.heads, hidden // self.heads)
        query, key, value = (
            projection(x).view(split).transpose(1, 2) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, rotary), rotate(key, rotary)
        dropped = self.sizes.attention_dropout if self.training and not self.sizes.plain else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=real.transpose(1, 2)[:, None], dropout_p=dropped)
        return self.o_proj(attended.transpose(1, 2).reshape(batch, frames, hidden))


def rotary_positions(frames: int, head: int, device):
    """cos and sin (frames, head) of rotary positions (Su et al. 2021)."""
    inverse = (torch.arange(0, head, 2, device=device, dtype=torch.float32) * (-math.log(ROPE_THETA) / head)).exp()
    angles = torch.arange(frames, device=device, dtype=torch.float32)[:, None] * inverse
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x, rotary):
    cos, sin = (table.to(x.dtype) for table in rotary)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class ConvolutionModule(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        hidden = sizes.hidden_size
        self.pointwise_conv1 = nn.Conv1d(hidden, 2 * hidden, 1, bias=False)
        self.depthwise_conv = nn.Conv1d(hidden, hidden, sizes.conv_kernel_size, padding="same", groups=hidden, bias=False)
        self.norm = MaskedBatchNorm(hidden, momentum=sizes.batch_norm_momentum)
        self.pointwise_conv2 = nn.Conv1d(hidden, hidden, 1, bias=False)

    def forward(self, x, real):
        gated = F.glu(F.linear(x, self.pointwise_conv1.weight.squeeze(2)), dim=-1) * real
        convolved = self.depthwise_conv(gated.transpose(1, 2)).transpose(1, 2)
        return F.linear(F.silu(self.norm(convolved * real, real)), self.pointwise_conv2.weight.squeeze(2))


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalization of (sequences, frames, channels) that are zero where frames are padding, which does not count."""

    def forward(self, x, real):
        if self.training:
            count = real.sum()
            mean = x.sum((0, 1), dtype=torch.float32) / count
            square = torch.linalg.vector_norm(x, dim=(0, 1), dtype=torch.float32).square() / count
            variance = (square - mean.square()).clamp(min=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight.float() * (variance + self.eps).rsqrt()
        shift = self.bias.float() - mean * scale
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


class Block(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.feed_forward1 = FeedForward(sizes)
        self.self_attn = SelfAttention(sizes)
        self.conv = ConvolutionModule(sizes)
        self.feed_forward2 = FeedForward(sizes)
        for name in ("feed_forward1", "self_att", "conv", "feed_forward2", "out"):
            setattr(self, f"norm_{name}", nn.LayerNorm(sizes.hidden_size, LAYER_NORM_EPSILON, bias=False))
        self.sizes = sizes

    def forward(self, x, real, rotary):
        def branch(value):
            return drop(value, self.sizes.residual_dropout, self)

        kept, added = FEED_FORWARD_RESIDUAL
        x = kept * x + added * branch(self.feed_forward1(self.norm_feed_forward1(x)))
        x = x + branch(self.self_attn(self.norm_self_att(x), real, rotary))
        x = CONVOLUTION_RESIDUAL[0] * x + CONVOLUTION_RESIDUAL[1] * branch(self.conv(self.norm_conv(x), real))
        x = kept * x + added * branch(self.feed_forward2(self.norm_feed_forward2(x)))
        return self.norm_out(x)


class Encoder(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.subsampler = Subsampler(sizes)
        self.layers = nn.ModuleList(Block(sizes) for _ in range(sizes.num_hidden_layers))
        self.out_norm = nn.LayerNorm(sizes.hidden_size, LAYER_NORM_EPSILON, bias=False)

    def forward(self, features, lengths, inner_layer: int):
        """
        features (sequences, frames, mel bins); lengths: hidden frames of each, on the device.
        Returns the output, the output of block `inner_layer` (counted from 1), and which frames are real.
        """
        x = drop(self.subsampler(features), self.sizes.dropout, self)
        real = real_frames(lengths, x.shape[1])
        rotary = rotary_positions(x.shape[1], self.sizes.hidden_size // self.sizes.num_attention_heads, x.device)
        inner = x
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, real, rotary)
            if number == inner_layer:
                inner = x
        return self.out_norm(x), inner, real


class LasrForCTC(nn.Module):
    """`inner_head` has a second CTC loss, in training only: its weights are no part of the exported model."""

    def __init__(self, sizes: Sizes, vocabulary: int, inner_vocabulary: int):
        super().__init__()
        self.sizes = sizes
        self.encoder = Encoder(sizes)
        self.ctc_head = nn.Conv1d(sizes.hidden_size, vocabulary, 1)
        self.inner_layer = max(1, sizes.num_hidden_layers // 2)
        self.inner_head = nn.Linear(sizes.hidden_size, inner_vocabulary)
        for name, weight in self.named_parameters():
            if name.endswith("bias") or name.startswith("inner_head"):
                nn.init.zeros_(weight)  # a head that knows nothing yet does not disturb the blocks below it
            elif name.startswith("ctc_head"):
                nn.init.normal_(weight, std=0.02)
            elif "depthwise" in name:
                nn.init.uniform_(weight, -1 / math.sqrt(weight[0].numel()), 1 / math.sqrt(weight[0].numel()))
            elif "subsampler.conv" in name or "dense_0" in name:
                nn.init.kaiming_uniform_(weight, nonlinearity="relu")
            elif weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, features, lengths):
        """Log-probabilities (sequences, hidden frames, vocabulary) in float32: of tokens, and of inner symbols."""
        features = features.to(self.inner_head.weight.dtype)
        hidden, inner, real = self.encoder(features, lengths, self.inner_layer)
        logits = F.linear(hidden, self.ctc_head.weight.squeeze(2), self.ctc_head.bias)
        return logits.float().log_softmax(-1), self.inner_head(inner).float().log_softmax(-1), real
