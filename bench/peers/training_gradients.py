"""Peer of training_gradients.ts: the loss of transformers in float64 and the gradient of every parameter, in evaluation mode (no dropout,
running statistics).

usage: training_gradients.py (MODEL_FOLDER OURS)..
OURS is safetensors with the loss, targets (-1 behind the last), `silent`, the targets of a prompt that do not count, and gradients by
parameter name. Prints a line for each model and the worst of all. An error is the norm of the difference over that of the gradient and a
ten-thousandth of the largest gradient of the model. transformers leaves the loss of the plain transducer to torchaudio; here it is written out.
"""
import sys

import torch
import transformers
from safetensors.torch import load_file
from transformers.loss.loss_tdt import tdt_loss

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

TRANSDUCERS = {"parakeet_rnnt": "ParakeetForRNNT", "parakeet_tdt": "ParakeetForTDT"}
SEQUENCES = ("whisper", "cohere_asr")


def transducer_loss(logits, labels, blank):
    """Forward recursion of Graves 2012 over one utterance, logits (frames, labels + 1, vocabulary)."""
    scores = torch.log_softmax(logits, -1)
    alpha = {}
    for t in range(scores.shape[0]):
        for u in range(scores.shape[1]):
            paths = [torch.zeros((), dtype=scores.dtype)] if t + u == 0 else []
            if t > 0:
                paths.append(alpha[t - 1, u] + scores[t - 1, u, blank])
            if u > 0:
                paths.append(alpha[t, u - 1] + scores[t, u - 1, labels[u - 1]])
            alpha[t, u] = torch.logsumexp(torch.stack(paths), 0)
    t, u = scores.shape[0] - 1, scores.shape[1] - 1
    return -(alpha[t, u] + scores[t, u, blank])


def transducer_item(model, config, x, labels):
    blank = config.blank_token_id
    encoded = model.get_audio_features(input_features=x).pooler_output
    decoded = model.decoder(torch.cat([torch.tensor([blank]), labels])[None])
    logits = model.joint(encoder_hidden_states=encoded[:, :, None, :], decoder_hidden_states=decoded[:, None, :, :])
    if config.model_type == "parakeet_rnnt":
        return transducer_loss(logits[0], labels, blank)
    sizes = torch.tensor([logits.shape[1]]), torch.tensor([len(labels)])
    tokens, durations = logits[..., : config.vocab_size], logits[..., config.vocab_size :]
    return tdt_loss(tokens, durations, labels[None], *sizes, blank, list(config.durations))


def ctc_item(model, key, x, labels):
    mask = {"attention_mask": torch.ones(1, x.shape[1], dtype=torch.long)} if key == "input_features" else {}
    return model(**{key: x}, **mask, labels=labels[None]).loss


def sequence_item(model, x, tokens, silent):
    """The sum over the tokens that count, and their number."""
    logits = model(input_features=x, decoder_input_ids=tokens[None, :-1]).logits[0, silent:]
    return torch.nn.functional.cross_entropy(logits, tokens[1 + silent :], reduction="sum")


def loss_of(model, config, expected, targets, silent):
    """Of each utterance without padding, so that nothing depends on the others."""
    key = "input_values" if "input_values" in expected else "input_features"
    losses, counts = [], []
    for item, row in enumerate(targets):
        x = expected[key][item : item + 1].double()
        if "attention_mask" in expected:
            x = x[:, : int(expected["attention_mask"][item].sum())]
        labels = row[row >= 0]
        counts.append(len(labels))
        if config.model_type in SEQUENCES:
            losses.append(sequence_item(model, x, labels, silent))
        elif config.model_type in TRANSDUCERS:
            losses.append(transducer_item(model, config, x, labels))
        else:
            losses.append(ctc_item(model, key, x, labels))
    if config.model_type in SEQUENCES:
        return sum(losses) / sum(count - 1 - silent for count in counts)
    if config.model_type == "parakeet_rnnt":
        return sum(losses) / sum(counts)
    return sum(losses) if getattr(config, "ctc_loss_reduction", None) == "sum" else sum(losses) / len(losses)


def compare(folder, recorded):
    """Worst error of a gradient, or None where the loss is infinite."""
    ours = load_file(recorded)
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = config.model_type
    architecture = TRANSDUCERS.get(kind, "AutoModelForSpeechSeq2Seq" if kind in SEQUENCES else "AutoModelForCTC")
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = getattr(transformers, architecture).from_pretrained(folder, **options).eval()
    # transformers takes rotary frequencies from the checkpoint, rounded; they follow from their base.
    for name, buffer in type(model)(model.config).named_buffers():
        if name.endswith("inv_freq"):
            model.get_buffer(name).copy_(buffer)
    model = model.double()
    loss = loss_of(model, config, load_file(f"{folder}/expected.safetensors"), ours["targets"].long(), int(ours["silent"]))
    if not torch.isfinite(loss):
        print(f"{folder}: left out, the loss is {loss.item()}, ours {ours['loss'].item()}")
        return None
    loss.backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters() if name in ours and parameter.grad is not None}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None and f"{name}.weight" in wanted:
            # torch gives the token of padding no gradient, also where a made-up transcript has it.
            for gradients in (wanted, ours):
                gradients[f"{name}.weight"][module.padding_idx] = 0
    norms = {name: float(gradient.norm()) for name, gradient in wanted.items()}
    floor = 1e-4 * max(norms.values())
    errors = {name: float((ours[name].double() - gradient).norm()) / (norms[name] + floor) for name, gradient in wanted.items()}
    name = max(errors, key=errors.get)
    losses = f"loss {loss.item():.6g}, ours {ours['loss'].item():.6g}"
    print(f"{folder}: {kind}, {losses}; gradients of {len(errors)} parameters, worst error {errors[name]:.2g} ({name})", flush=True)
    return errors[name]


if __name__ == "__main__":
    words = sys.argv[1:]
    errors = [compare(folder, recorded) for folder, recorded in zip(words[::2], words[1::2])]
    compared = [error for error in errors if error is not None]
    if len(compared) > 1:
        print(f"{len(compared)} models, worst error {max(compared):.2g}")
