"""Peer of training_gradients.ts: the loss of transformers and the gradient of every parameter, in evaluation mode (no dropout, running statistics).

usage: training_gradients.py MODEL_FOLDER OURS (safetensors with loss, targets (-1 behind the last label) and gradients by parameter name)
Prints one line. transformers leaves the loss of the plain transducer to torchaudio; here it is written out.
"""
import sys

import torch
import transformers
from safetensors.torch import load_file

folder, recorded = sys.argv[1:]
torch.set_num_threads(1)
ours = load_file(recorded)
expected = load_file(f"{folder}/expected.safetensors")
config = transformers.AutoConfig.from_pretrained(folder)
kind = config.model_type
architecture = {"parakeet_rnnt": "ParakeetForRNNT", "parakeet_tdt": "ParakeetForTDT"}.get(kind, "AutoModelForCTC")
model = getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
key = "input_values" if "input_values" in expected else "input_features"
targets = ours["targets"].long()


def transducer_loss(logits, labels, blank):
    """Forward recursion of Graves 2012 over one utterance, logits (frames, labels + 1, vocabulary)."""
    scores = torch.log_softmax(logits, -1)
    alpha = {}
    for t in range(scores.shape[0]):
        for u in range(scores.shape[1]):
            paths = [torch.zeros(())] if t + u == 0 else []
            if t > 0:
                paths.append(alpha[t - 1, u] + scores[t - 1, u, blank])
            if u > 0:
                paths.append(alpha[t, u - 1] + scores[t, u - 1, labels[u - 1]])
            alpha[t, u] = torch.logsumexp(torch.stack(paths), 0)
    t, u = scores.shape[0] - 1, scores.shape[1] - 1
    return -(alpha[t, u] + scores[t, u, blank])


def loss_of(item):
    """One utterance without padding, so that nothing depends on the others."""
    length = int(expected["attention_mask"][item].sum()) if "attention_mask" in expected else expected[key].shape[1]
    x = expected[key][item : item + 1, :length]
    labels = targets[item][targets[item] >= 0]
    if architecture == "AutoModelForCTC":
        mask = {"attention_mask": torch.ones(1, length, dtype=torch.long)} if key == "input_features" else {}
        return model(**{key: x}, **mask, labels=labels[None]).loss, len(labels)
    blank = config.blank_token_id
    encoded = model.get_audio_features(input_features=x).pooler_output
    decoded = model.decoder(torch.cat([torch.tensor([blank]), labels])[None])
    logits = model.joint(encoder_hidden_states=encoded[:, :, None, :], decoder_hidden_states=decoded[:, None, :, :])
    if kind == "parakeet_rnnt":
        return transducer_loss(logits[0], labels, blank), len(labels)
    from transformers.loss.loss_tdt import tdt_loss

    sizes = torch.tensor([logits.shape[1]]), torch.tensor([len(labels)])
    tokens, durations = logits[..., : config.vocab_size], logits[..., config.vocab_size :]
    return tdt_loss(tokens, durations, labels[None], *sizes, blank, list(config.durations)), len(labels)


losses, counts = zip(*(loss_of(item) for item in range(len(targets))))
summed = kind == "parakeet_rnnt" or getattr(config, "ctc_loss_reduction", None) == "sum"
loss = sum(losses) if summed else sum(losses) / len(losses)
if kind == "parakeet_rnnt":
    loss = loss / sum(counts)
loss.backward()
worst, compared = (0.0, ""), 0
for name, parameter in model.named_parameters():
    # A bias of all keys shifts all scores of a row alike: its gradient is zero but for rounding.
    if name not in ours or name.endswith(("k_proj.bias", "linear_k.bias")):
        continue
    wanted = parameter.grad
    compared += 1
    worst = max(worst, (float((ours[name] - wanted).norm() / wanted.norm()), name))
losses = f"loss {loss.item():.6g}, ours {ours['loss'].item():.6g}"
print(f"{kind}: {losses}; gradients of {compared} parameters, worst relative error {worst[0]:.2g} ({worst[1]})")
