"""The loss of ctc.py against PyTorch's, over random shapes. usage: python3 -m unittest discover training/pytorch"""
import os
import sys
import unittest

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ctc import ctc_losses  # noqa: E402


def random_case(generator):
    draw = lambda low, high, shape=(): torch.randint(low, high, shape, generator=generator)
    sequences, frames, vocabulary, labels = (int(draw(low, high)) for low, high in ((1, 6), (1, 14), (2, 6), (1, 7)))
    lengths, counts = draw(1, frames + 1, (sequences,)), draw(1, labels + 1, (sequences,))
    targets = draw(1, vocabulary, (sequences, labels)) * (torch.arange(labels) < counts[:, None])
    scores = 3 * torch.randn((sequences, frames, vocabulary), generator=generator)
    return scores.requires_grad_(), targets, counts, lengths


class TestCtc(unittest.TestCase):
    def test_loss_and_gradient(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(100):  # among them repeated labels, and targets that do not fit their frames
            scores, targets, counts, lengths = random_case(generator)
            log_probabilities = scores.log_softmax(-1)
            ours = ctc_losses([(log_probabilities, targets, counts)], lengths)[0]
            theirs = F.ctc_loss(log_probabilities.transpose(0, 1), targets, lengths, counts, reduction="none", zero_infinity=True)
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
            weights = torch.rand(len(lengths), generator=generator)
            gradients = [torch.autograd.grad((loss * weights).sum(), scores, retain_graph=True)[0] for loss in (ours, theirs)]
            torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)

    def test_heads_do_not_mix(self):
        generator = torch.Generator().manual_seed(1)
        scores, targets, counts, lengths = random_case(generator)
        log_probabilities = scores.log_softmax(-1)
        alone = ctc_losses([(log_probabilities, targets, counts)], lengths)
        both = ctc_losses([(log_probabilities, targets, counts), (scores.flip(-1).log_softmax(-1), targets, counts)], lengths)
        torch.testing.assert_close(both[0], alone[0])


if __name__ == "__main__":
    unittest.main()
