"""Peer of random_parity.ts: random small models of a family with random inputs, and what transformers computes for them.

usage: random_models.py FAMILY FIRST_SEED COUNT FOLDER
Writes one folder for each seed, FOLDER/FAMILY-SEED: the model as `save_pretrained` writes it (in float32, float16 or bfloat16, in one file
or several), preprocessor_config.json, and expected.safetensors. Where there is a mask every item of the batch is computed alone: what
transformers gives for a batch may depend on its padding (GroupNorm; convolutions of wav2vec2-conformer). A seed that transformers itself
refuses gets no folder; one that is there already is left as it is.
"""
import json
import os
import shutil
import sys
import warnings

import torch
import transformers
from random_configurations import CONFIGURATIONS
from random_draw import Draw
from safetensors.torch import save_file

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore")
torch.set_num_threads(1)

CLASSES = {
    "lasr_ctc": "LasrForCTC",
    "parakeet_ctc": "ParakeetForCTC",
    "parakeet_rnnt": "ParakeetForRNNT",
    "parakeet_tdt": "ParakeetForTDT",
    "wav2vec2": "Wav2Vec2ForCTC",
    "hubert": "HubertForCTC",
    "wav2vec2-conformer": "Wav2Vec2ConformerForCTC",
    "wav2vec2-bert": "Wav2Vec2BertForCTC",
    "whisper": "WhisperForConditionalGeneration",
    "cohere_asr": "CohereAsrForConditionalGeneration",
}
EXTRACTORS = {
    "lasr_ctc": "LasrFeatureExtractor",
    "wav2vec2": "Wav2Vec2FeatureExtractor",
    "hubert": "Wav2Vec2FeatureExtractor",
    "wav2vec2-conformer": "Wav2Vec2FeatureExtractor",
    "wav2vec2-bert": "SeamlessM4TFeatureExtractor",
    "whisper": "WhisperFeatureExtractor",
    "cohere_asr": "CohereAsrFeatureExtractor",
}


def randomize(model, draw):
    """Weights that keep values of about one, norms that are none of 0 and 1, and logits far enough apart."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" in name and "encoder" in name:
                continue  # sinusoids
            noise = draw.normal(*parameter.shape)
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                gain = draw.number(0.8, 1.6) * (3.0 if name.split(".")[0] in ("lm_head", "ctc_head", "joint", "proj_out") else 1.0)
                parameter.copy_(noise * gain / fan_in**0.5 if "original0" not in name else 1 + 0.3 * noise)
            else:
                is_gain = name.endswith("weight") and "norm" in name
                parameter.copy_(0.3 * noise + (1 if is_gain else 0))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * draw.normal(*buffer.shape))
            elif name.endswith("running_var"):
                buffer.copy_(0.3 + draw.normal(*buffer.shape).abs())


def store(model, folder, draw):
    """Writes the model and reads it again, so that both compute with the same rounded weights."""
    dtype = draw.of(torch.float32, torch.float32, torch.float16, torch.bfloat16)
    shards = {"max_shard_size": "20KB"} if draw.below(3) == 0 else {}
    model.to(dtype).save_pretrained(folder, **shards)
    if dtype != torch.float32:
        frequencies = {name: buffer.clone() for name, buffer in type(model)(model.config).named_buffers() if name.endswith("inv_freq")}
        model = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        # transformers takes rotary frequencies from the checkpoint, rounded; they follow from their base.
        for name, buffer in frequencies.items():
            model.get_buffer(name).copy_(buffer)
    return model.eval()


def alone_or_together(run, inputs, lengths, masked):
    """(values of each item, padded) of `run` over items without their padding, or over the whole batch where there is no mask."""
    if not masked:
        return run(inputs)
    parts = [run(inputs[item : item + 1, :length]) for item, length in enumerate(lengths)]
    frames = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, 0, 0, frames - part.shape[1])) for part in parts])


def random_lengths(draw, least, most):
    lengths = [draw.between(least, most) for _ in range(draw.between(1, 4))]
    return lengths if draw.below(4) else [least, *lengths]


def shortest(lengths_of, most=4000):
    """Least input that gives a hidden frame."""
    return next(length for length in range(1, most) if int(lengths_of(torch.tensor([length]))[0]) > 0)


def padded_inputs(draw, lengths, *rest):
    inputs = draw.normal(len(lengths), max(lengths), *rest)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    inputs[mask == 0] = 0
    return inputs, mask


def transducer_tokens(model, config, features):
    """Steps of greedy decoding; those after the guard of max_symbols_per_step, which transformers has for the plain transducer alone."""
    steps = model.generate(input_features=features)
    tokens, durations = steps.sequences[0].tolist(), steps.durations[0].tolist()
    if config.model_type == "parakeet_tdt":
        stays = 0
        for step, duration in list(enumerate(durations))[1:]:
            stays = stays + 1 if duration == 0 else 0
            if stays >= config.max_symbols_per_step:
                return tokens[: step + 1]
    return tokens


def padded_rows(rows, filler):
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


def samples_expected(family, model, config, draw, preprocessor):
    masked = preprocessor["return_attention_mask"] = draw.switch()
    least = shortest(model._get_feat_extract_output_lengths)
    # GroupNorm of torch wants more than one frame behind the first convolution.
    least = max(least, config.conv_kernel[0] + config.conv_stride[0])
    lengths = random_lengths(draw, least, least + draw.of(50, 500, 2000))
    inputs, mask = padded_inputs(draw, lengths)
    body = getattr(model, model.base_model_prefix)
    hidden = alone_or_together(lambda x: body(x).last_hidden_state, inputs, lengths, masked)
    counts = model._get_feat_extract_output_lengths(mask.sum(-1) if masked else torch.full((len(lengths),), inputs.shape[1]))
    return {"input_values": inputs, "attention_mask": mask}, hidden, model.lm_head(hidden), counts


def features_expected(family, model, config, draw, preprocessor):
    bins = preprocessor["feature_size"] = config.encoder_config.num_mel_bins
    least = shortest(model._get_subsampling_output_length)
    lengths = random_lengths(draw, least, least + draw.of(20, 100, 400))
    inputs, mask = padded_inputs(draw, lengths, bins)
    encoder = model.model.encoder if family == "cohere_asr" else model.encoder
    hidden = alone_or_together(lambda x: encoder(x).last_hidden_state, inputs, lengths, True)
    return {"input_features": inputs, "attention_mask": mask}, hidden, lengths, model._get_subsampling_output_length(mask.sum(-1))


def ctc_expected(family, model, config, draw, preprocessor):
    inputs, hidden, _, counts = features_expected(family, model, config, draw, preprocessor)
    return inputs, hidden, model.ctc_head(hidden), counts


def pairs_expected(family, model, config, draw, preprocessor):
    """Features are pairs of log-mel frames."""
    preprocessor["num_mel_bins"] = config.feature_projection_input_dim // 2
    counted = model._get_feat_extract_output_lengths
    lengths = random_lengths(draw, shortest(counted), draw.of(20, 100, 400))
    inputs, mask = padded_inputs(draw, lengths, config.feature_projection_input_dim)
    hidden = alone_or_together(lambda x: model.wav2vec2_bert(x).last_hidden_state, inputs, lengths, True)
    return {"input_features": inputs, "attention_mask": mask}, hidden, model.lm_head(hidden), counted(mask.sum(-1))


def transducer_expected(family, model, config, draw, preprocessor):
    inputs, hidden, lengths, counts = features_expected(family, model, config, draw, preprocessor)
    rows = [transducer_tokens(model, config, inputs["input_features"][item : item + 1, :length]) for item, length in enumerate(lengths)]
    inputs["steps"] = torch.tensor([len(row) for row in rows])
    inputs["tokens"] = padded_rows(rows, config.blank_token_id)
    return inputs, hidden, None, counts


def cohere_expected(family, model, config, draw, preprocessor):
    model._get_subsampling_output_length = model.model.encoder._get_subsampling_output_length
    inputs, hidden, lengths, counts = features_expected(family, model, config, draw, preprocessor)
    count = draw.between(1, config.max_position_embeddings)
    ids = inputs["decoder_input_ids"] = torch.tensor([[draw.below(config.vocab_size) for _ in range(count)] for _ in lengths])
    logits = [
        model(input_features=inputs["input_features"][item : item + 1, :length], decoder_input_ids=ids[item : item + 1]).logits
        for item, length in enumerate(lengths)
    ]
    start = model.generation_config.decoder_start_token_id
    prompt = inputs["prompt"] = torch.tensor([start] + [draw.below(config.vocab_size) for _ in range(draw.below(5))])
    rows = [
        model.generate(input_features=inputs["input_features"][item : item + 1, :length], decoder_input_ids=prompt[None])[0].tolist()
        for item, length in enumerate(lengths)
    ]
    inputs["generated"] = padded_rows(rows, config.eos_token_id)
    return inputs, hidden, torch.cat(logits), counts


def whisper_expected(family, model, config, draw, preprocessor):
    frames = 2 * config.max_source_positions
    preprocessor.update(feature_size=config.num_mel_bins, chunk_length=frames // 100)
    inputs = {"input_features": draw.normal(draw.between(1, 3), config.num_mel_bins, frames)}
    size = len(inputs["input_features"])
    count = draw.between(1, config.max_target_positions)
    ids = inputs["decoder_input_ids"] = torch.tensor([[draw.below(config.vocab_size) for _ in range(count)] for _ in range(size)])
    hidden = model.model.encoder(inputs["input_features"]).last_hidden_state
    logits = model(input_features=inputs["input_features"], decoder_input_ids=ids).logits
    for name, times in (("generated", False), ("generated_with_times", True)):
        language = {"language": "en", "task": "transcribe"} if model.generation_config.is_multilingual else {}
        options = {"return_timestamps": times, "force_unique_generate_call": True, **language}
        inputs[name] = model.generate(inputs["input_features"], **options).long()
    return inputs, hidden, logits, torch.full((size,), config.max_source_positions)


EXPECTED = {
    "wav2vec2": samples_expected,
    "hubert": samples_expected,
    "wav2vec2-conformer": samples_expected,
    "wav2vec2-bert": pairs_expected,
    "lasr_ctc": ctc_expected,
    "parakeet_ctc": ctc_expected,
    "parakeet_rnnt": transducer_expected,
    "parakeet_tdt": transducer_expected,
    "whisper": whisper_expected,
    "cohere_asr": cohere_expected,
}


def write_model(family, seed, folder):
    path = os.path.join(folder, f"{family}-{seed}")
    if os.path.exists(os.path.join(path, "expected.safetensors")):
        return
    draw = Draw(seed)
    settings = CONFIGURATIONS[family](draw)
    architecture = getattr(transformers, CLASSES[family])
    config = architecture.config_class(**settings, attn_implementation="eager")
    torch.manual_seed(seed)
    model = architecture(config)
    randomize(model, draw)
    if family == "whisper":
        whisper_generation(model, draw)
    if family == "cohere_asr":
        model.generation_config.decoder_start_token_id = draw.below(config.vocab_size)
        model.generation_config.suppress_tokens = draw.of(None, [draw.below(config.vocab_size)])
        # The prompt of the family has ten tokens, those drawn here have up to five.
        random_length(model.generation_config, draw, least=11, positions=config.max_position_embeddings, prompt=5)
    if family.startswith("parakeet") and family != "parakeet_ctc":
        model.generation_config.decoder_start_token_id = config.blank_token_id
        durations = len(getattr(config, "durations", []))
        model.generation_config.suppress_tokens = [config.vocab_size + index for index in range(durations)] or None
    preprocessor = {"feature_extractor_type": EXTRACTORS.get(family, "ParakeetFeatureExtractor")}
    with torch.inference_mode():
        model = store(model, path, draw)
        inputs, hidden, logits, counts = EXPECTED[family](family, model, config, draw, preprocessor)
    outputs = {"encoder_last_hidden_state": hidden, "lengths": counts.long(), **({} if logits is None else {"logits": logits})}
    save_file({name: tensor.contiguous() for name, tensor in {**inputs, **outputs}.items()}, os.path.join(path, "expected.safetensors"))
    with open(os.path.join(path, "preprocessor_config.json"), "w") as file:
        json.dump(preprocessor, file)


def whisper_generation(model, draw):
    """Languages, tasks and times: the last 31 ids, behind start and end."""
    generation, size = model.generation_config, model.config.vocab_size
    generation._from_model_config = False  # or what follows is left behind when the model is read again
    generation.is_multilingual = draw.switch()
    if generation.is_multilingual:
        generation.lang_to_id = {"<|en|>": size - 31, "<|de|>": size - 30}
        generation.task_to_id = {"transcribe": size - 29, "translate": size - 28}
    generation.no_timestamps_token_id = size - 27
    generation.max_initial_timestamp_index = draw.between(1, 20)
    generation.suppress_tokens = draw.of(None, [draw.below(20) for _ in range(4)])
    generation.begin_suppress_tokens = draw.of(None, [draw.below(20), size - 33])
    random_length(generation, draw, least=1, positions=model.config.max_target_positions, prompt=4)


def random_length(generation, draw, least, positions, prompt):
    generation.max_length = draw.of(positions, draw.between(least, positions))
    if draw.below(4) == 0:
        generation.max_new_tokens = draw.between(1, positions - prompt)


if __name__ == "__main__":
    family, first, count, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    for seed in range(first, first + count):
        try:
            write_model(family, seed, folder)
        except Exception as error:  # transformers refuses some configurations when it builds or runs them
            shutil.rmtree(os.path.join(folder, f"{family}-{seed}"), ignore_errors=True)
            print(f"{family}-{seed}: transformers: {type(error).__name__}: {error}"[:300], flush=True)
