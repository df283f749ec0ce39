"""Random choices of sizes, switches and values, by seed."""
import torch


class Draw:
    """Random choices by seed."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def below(self, limit):
        return int(torch.randint(limit, (), generator=self.generator))

    def between(self, least, most):
        return least + self.below(most - least + 1)

    def of(self, *choices):
        return choices[self.below(len(choices))]

    def number(self, least, most):
        return least + (most - least) * float(torch.rand((), generator=self.generator))

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def switch(self):
        return self.below(2) == 1
