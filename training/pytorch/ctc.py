"""
Connectionist temporal classification (Graves et al. 2006) without a look at lengths on the CPU, so that a whole training
step fits in a CUDA graph, which PyTorch's own loss does not. Forward and backward variables are one recursion over frames:
the backward ones are those of reversed sequences, and become rows of the same tensors.
"""
import torch
import torch.nn.functional as F

NEVER = -1e30  # logarithm of the probability of what cannot be; finite, so that differences of two are no NaN
PADDING = 2  # states before the first, never reached: a step reads one and two states back


def emissions(log_probabilities, targets):
    """
    Logarithms of what each state emits in each frame, (sequences, frames, 2 labels + 1): blank, label, blank, .. blank.
    log_probabilities (sequences, frames, vocabulary), blank 0; targets (sequences, labels), padded with zeros.
    """
    frames = log_probabilities.shape[1]
    labels = log_probabilities.gather(2, targets[:, None, :].expand(-1, frames, -1))
    blanks = log_probabilities[:, :, :1].expand_as(labels)
    return torch.cat((torch.stack((blanks, labels), 3).flatten(2), log_probabilities[:, :, :1]), 2)


class StateLoss(torch.autograd.Function):
    """-ln P of each sequence from what its states emit; 0, without a gradient, where the frames do not suffice."""

    @staticmethod
    def forward(context, emitted, targets, counts, lengths):
        rows, frames, states = emitted.shape
        device = emitted.device
        state, frame = torch.arange(states, device=device), torch.arange(frames, device=device)
        last = 2 * counts[:, None]  # state of the last blank
        real = frame < lengths[:, None]  # (rows, frames)
        labels = F.pad(targets, (1, 0))  # labels[k] is the label of state 2 k - 1
        differs = labels[:, 1:] != labels[:, :-1]  # from the label before
        skips = torch.zeros((rows, states), dtype=torch.bool, device=device)
        skips[:, 1::2] = differs  # a label may follow the one before it without a blank; the first may be the first state
        backward_skips = torch.zeros_like(skips)
        # Arriving, backwards, at state s from s + 2 is allowed where s + 2 may follow s; the last label may be the last state.
        backward_skips[:, :-2] = skips[:, 2:]
        backward_skips |= (state == last - 1)
        valid = state <= last
        # One more state before the first: a sequence waits there, at no cost, until its first frame.
        impossible = ~(real[:, :, None] & valid[:, None, :])
        forward_emitted = emitted.masked_fill(impossible, NEVER)
        both = torch.cat((forward_emitted, forward_emitted.flip(1, 2)))
        skip = torch.cat((skips, backward_skips.flip(1)))
        waits = torch.cat((torch.full((rows, 1), -1, device=device), states - 2 - last))  # state before the first valid one
        wait_here = torch.arange(-1, states, device=device) == waits  # (2 rows, states + 1)
        begins = torch.cat((torch.zeros_like(lengths), frames - lengths))
        waiting = wait_here[:, None, :] & (frame[None, :, None] < begins[:, None, None])
        both = F.pad(both, (1, 0), value=NEVER).masked_fill(waiting, 0.0).transpose(0, 1).contiguous()
        penalty = F.pad(~skip * NEVER, (1, 0), value=NEVER)
        # Of the way into the state after the waiting one there are two: by one state and, to the first label, by two.
        variables = torch.full((frames + 1, 2 * rows, states + 1 + PADDING), NEVER, device=device)
        variables[0, :, PADDING:] = ~wait_here * NEVER
        for step in range(frames):
            before = variables[step]
            stays_or_moves = torch.logaddexp(before[:, 2:], before[:, 1:-1])
            arrived = torch.logaddexp(stays_or_moves, before[:, :-2] + penalty)
            torch.add(arrived, both[step], out=variables[step + 1, :, PADDING:])
        values = variables[1:, :, PADDING + 1 :]
        alpha = values[:, :rows].transpose(0, 1)
        beta = values[:, rows:].transpose(0, 1).flip(1, 2)
        joint = (alpha + beta - emitted).masked_fill(impossible, NEVER)
        # Every frame gives the same total; the first is there in every sequence.
        total = joint[:, 0].logsumexp(1)
        possible = total > 0.1 * NEVER
        posterior = (joint - total[:, None, None]).exp() * (possible[:, None, None] & real[:, :, None])
        context.save_for_backward(posterior)
        return (-total).masked_fill(~possible, 0.0)

    @staticmethod
    def backward(context, gradient):
        (posterior,) = context.saved_tensors
        return -gradient[:, None, None] * posterior, None, None, None


def ctc_losses(heads, lengths):
    """
    -ln P of each sequence under several heads, (heads, sequences), by one recursion for all.
    heads: (log-probabilities (sequences, frames, vocabulary), targets (sequences, labels), counts (sequences)) of each, with as
    many labels in each; lengths (sequences), frames of each. All on one device.
    """
    emitted = torch.cat([emissions(log_probabilities, targets) for log_probabilities, targets, _ in heads])
    targets, counts = torch.cat([head[1] for head in heads]), torch.cat([head[2] for head in heads])
    return StateLoss.apply(emitted, targets, counts, lengths.repeat(len(heads))).view(len(heads), -1)
