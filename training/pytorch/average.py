"""
Averages the weights of two float models of the same sizes, as of the beginning and the end of a training run (model soups, Wortsman
et al. 2022, arXiv 2203.05482): they make fewer errors together than either where the way between them does not leave the valley.

usage: average.py FIRST SECOND SHARE OUT     SHARE is the second model's, from 0 to 1; what is not weights is copied from the second
"""
import os
import shutil
import sys

from safetensors.torch import load_file, save_file


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__.strip())
    first, second, share, out = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
    if not 0 <= share <= 1:
        sys.exit(f"the share of the second model is between 0 and 1, not {share}")
    weights = load_file(os.path.join(first, "model.safetensors"))
    others = load_file(os.path.join(second, "model.safetensors"))
    different = [name for name in weights.keys() | others.keys() if name not in weights or name not in others or weights[name].shape != others[name].shape]
    if different:
        sys.exit(f"the models differ in {', '.join(sorted(different)[:5])}")
    averaged = {
        name: ((1 - share) * weights[name] + share * other).contiguous() if other.is_floating_point() else other
        for name, other in others.items()
    }
    shutil.copytree(second, out)
    unfinished = os.path.join(out, "model.safetensors.unfinished")
    save_file(averaged, unfinished, {"format": "pt"})
    os.replace(unfinished, os.path.join(out, "model.safetensors"))


main()
