"""Random small configurations of each family, by seed: what config.json may say, now and then more than is supported.

Widths are small, but norms have at least four values: those of two turn differences within rounding into -1 and 1.
"""


def lasr(draw):
    heads = draw.between(1, 4)
    head = 2 * draw.between(2, 8)
    hidden = heads * head
    encoder = {
        "hidden_size": hidden,
        "num_hidden_layers": draw.between(1, 3),
        "num_attention_heads": heads,
        "intermediate_size": draw.between(1, 40),
        "attention_bias": draw.switch(),
        "convolution_bias": draw.switch(),
        "conv_kernel_size": draw.between(1, 34),
        "subsampling_conv_channels": draw.between(1, 24),
        "subsampling_conv_kernel_size": draw.between(1, 7),
        "subsampling_conv_stride": draw.between(1, 4),
        "num_mel_bins": draw.of(8, 13, 16, 40, 128),
        "layer_norm_eps": draw.of(1e-6, 1e-5, 1e-3),
        "feed_forward_residual_weights": [draw.number(0.5, 2.0), draw.number(0.2, 1.0)],
        "conv_residual_weights": [draw.number(0.5, 2.0), draw.number(0.2, 1.0)],
    }
    if draw.switch():
        encoder["rope_parameters"] = {"rope_type": "default", "rope_theta": draw.of(100.0, 10000.0, 500000.0)}
    if draw.below(4) == 0:
        encoder["head_dim"] = 2 * draw.between(1, 8)
    vocabulary = draw.between(2, 60)
    return {
        "vocab_size": vocabulary,
        "pad_token_id": draw.of(0, draw.below(vocabulary)),
        "encoder_config": encoder,
        **ctc_loss(draw),
    }


def ctc_loss(draw):
    return {"ctc_loss_reduction": draw.of("mean", "sum"), "ctc_zero_infinity": draw.switch()} if draw.switch() else {}


def parakeet_encoder(draw):
    factor = draw.of(2, 4, 8, 8, 16)
    heads = draw.between(1, 4)
    # Positions of an odd number of features are none that transformers can make.
    hidden = heads * draw.between(2, 10) * (1 if heads % 2 == 0 else 2)
    encoder = {
        "hidden_size": hidden,
        "num_hidden_layers": draw.between(1, 3),
        "num_attention_heads": heads,
        "intermediate_size": draw.between(1, 40),
        "attention_bias": draw.switch(),
        "convolution_bias": draw.switch(),
        "conv_kernel_size": 2 * draw.below(8) + 1,
        "subsampling_factor": factor,
        "subsampling_conv_channels": draw.between(1, 20),
        "num_mel_bins": draw.of(factor * draw.between(1, 4), 80),
        "scale_input": draw.switch(),
    }
    if draw.below(4) == 0:
        encoder["head_dim"] = draw.between(1, 12)
    if draw.below(6) == 0:
        encoder["num_key_value_heads"] = draw.of(*[count for count in range(1, heads + 1) if heads % count == 0])
    if draw.below(6) == 0:
        encoder["max_position_embeddings"] = draw.between(4, 20)
    if draw.below(10) == 0:
        encoder["hidden_act"] = draw.of("relu", "gelu", "swish")
    if draw.below(10) == 0:
        encoder["subsampling_conv_kernel_size"] = 5
    return encoder


def parakeet_ctc(draw):
    vocabulary = draw.between(2, 60)
    blank = draw.of(vocabulary - 1, draw.below(vocabulary))
    return {"vocab_size": vocabulary, "pad_token_id": blank, "encoder_config": parakeet_encoder(draw), **ctc_loss(draw)}


def parakeet_rnnt(draw):
    vocabulary = draw.between(2, 60)
    blank = draw.of(vocabulary - 1, draw.below(vocabulary))
    return {
        "vocab_size": vocabulary,
        "blank_token_id": blank,
        "pad_token_id": draw.below(vocabulary),
        "decoder_hidden_size": draw.between(1, 40),
        "num_decoder_layers": draw.between(1, 3),
        "max_symbols_per_step": draw.between(1, 10),
        "hidden_act": "relu" if draw.below(20) else "tanh",
        "encoder_config": parakeet_encoder(draw),
    }


def parakeet_tdt(draw):
    # transformers takes the place of a duration for the duration, so only these mean the same.
    return {**parakeet_rnnt(draw), "durations": list(range(draw.between(2, 6)))}


def wav2vec2(draw):
    layers = draw.between(1, 4)
    groups = draw.of(1, 2, 3, 4)
    heads = draw.of(1, 2, 3, 4)
    hidden = groups * heads * draw.of(4, 5, 6)
    config = {
        "vocab_size": draw.between(2, 50),
        "hidden_size": hidden,
        "num_hidden_layers": draw.between(1, 3),
        "num_attention_heads": heads,
        "intermediate_size": draw.between(1, 40),
        "hidden_act": draw.of("gelu", "gelu", "gelu", "relu", "relu", "silu", "swish", "gelu_new"),
        "layer_norm_eps": draw.of(1e-5, 1e-3, 1e-6),
        "feat_extract_norm": draw.of("group", "layer"),
        "conv_dim": [draw.between(4, 20) for _ in range(layers)],
        "conv_kernel": [draw.between(1, 10) for _ in range(layers)],
        "conv_stride": [draw.between(1, 5) for _ in range(layers)],
        "conv_bias": draw.switch(),
        "num_conv_pos_embeddings": draw.between(1, 20),
        "num_conv_pos_embedding_groups": groups,
        **ctc_loss(draw),
    }
    config["pad_token_id"] = draw.of(0, draw.below(config["vocab_size"]))
    if draw.below(12) == 0:
        config["feat_extract_activation"] = draw.of("relu", "silu")
    if draw.below(4) == 0:
        config["mask_time_prob"] = 0.0
    return config


def stable(draw):
    return {**wav2vec2(draw), "do_stable_layer_norm": draw.switch()}


def wav2vec2_base(draw):
    config = stable(draw)
    config.update(shortening(draw, config["hidden_size"]))
    if draw.below(3) == 0:
        config["adapter_attn_dim"] = draw.between(1, 8)
    return config


def shortening(draw, hidden):
    """Convolutions behind the encoder, now and then."""
    if draw.below(10) > 0:
        return {}
    width = draw.between(1, 3) * 4
    return {"add_adapter": True, "num_adapter_layers": draw.between(1, 2), "output_hidden_size": draw.of(hidden, width)}


def hubert(draw):
    config = stable(draw)
    config.update(feat_proj_layer_norm=draw.switch(), conv_pos_batch_norm=draw.switch())
    if draw.below(4) == 0:
        config["adapter_attn_dim"] = draw.between(1, 8)
    return config


def wav2vec2_conformer(draw):
    config = wav2vec2(draw)
    kind = draw.of("relative", "rotary", None)
    if kind == "rotary" or config["hidden_size"] % 2 == 1:
        config["hidden_size"] *= 2
    return {
        **config,
        "hidden_act": draw.of("gelu", "swish", "silu", "relu"),
        "position_embeddings_type": kind,
        "rotary_embedding_base": draw.of(10000, 100),
        "max_source_positions": draw.of(5000, 3),
        "conv_depthwise_kernel_size": 2 * draw.below(10) + 1,
        **shortening(draw, config["hidden_size"]),
    }


def wav2vec2_bert(draw):
    heads = draw.between(1, 4)
    hidden = heads * draw.of(4, 5, 6, 8)
    kind = draw.of("relative_key", "relative_key", "relative", "rotary", None)
    if hidden % 2 == 1 or kind == "rotary":
        hidden *= 2
    config = {
        "vocab_size": draw.between(2, 50),
        "feature_projection_input_dim": 2 * draw.of(80, draw.between(2, 20)),
        "hidden_size": hidden,
        "num_hidden_layers": draw.between(1, 3),
        "num_attention_heads": heads,
        "intermediate_size": draw.between(1, 40),
        "hidden_act": draw.of("swish", "swish", "silu", "gelu", "relu") if draw.below(12) else "gelu_new",
        "layer_norm_eps": draw.of(1e-5, 1e-3, 1e-6),
        "conv_depthwise_kernel_size": 2 * draw.below(16) + 1,
        "position_embeddings_type": kind,
        "rotary_embedding_base": draw.of(10000, 100),
        "max_source_positions": draw.of(5000, 3),
        "left_max_position_embeddings": draw.of(64, draw.below(20)),
        "right_max_position_embeddings": draw.of(8, draw.below(20)),
        **ctc_loss(draw),
    }
    config["pad_token_id"] = draw.of(0, draw.below(config["vocab_size"]))
    if draw.below(4) == 0:
        config["mask_time_prob"] = 0.0
    if draw.switch():
        stride = draw.of(2, 2, 3, 1, 4)
        fitting = 2 * (stride // 2) + 1
        config.update(
            add_adapter=True,
            num_adapter_layers=draw.of(1, 1, 2, 3, 0),
            adapter_stride=stride,
            adapter_kernel_size=fitting if draw.below(10) else draw.between(1, 6),
            adapter_act=draw.of("relu", "gelu", "swish", "silu") if draw.below(12) else "gelu_new",
            output_hidden_size=draw.of(None, hidden, heads * draw.between(4, 8)),
            use_intermediate_ffn_before_adapter=draw.switch(),
        )
    return config


def whisper(draw):
    heads, others = draw.between(1, 5), draw.between(1, 5)
    # Sinusoids come in pairs.
    width = heads * others * draw.of(4, 6)
    config = {
        "vocab_size": draw.between(60, 130),
        "num_mel_bins": draw.of(80, 128, draw.between(2, 40)),
        "d_model": width,
        "encoder_layers": draw.between(1, 3),
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": draw.between(1, 40),
        "decoder_layers": draw.between(1, 3),
        "decoder_attention_heads": others,
        "decoder_ffn_dim": draw.between(1, 40),
        "activation_function": draw.of("gelu", "gelu", "gelu", "relu", "silu", "swish", "gelu_new"),
        "scale_embedding": draw.switch(),
        "max_source_positions": draw.of(50, 100, 150),
        "max_target_positions": draw.between(8, 40),
        "tie_word_embeddings": draw.below(4) > 0,
        "median_filter_width": draw.of(7, 3, 9),
    }
    special = {name: config["vocab_size"] - 35 + index for index, name in enumerate(("pad", "bos", "eos", "decoder_start"))}
    config.update({f"{name}_token_id": id for name, id in special.items()}, begin_suppress_tokens=[draw.below(20), special["eos"]])
    if draw.switch():
        config["suppress_tokens"] = [draw.below(20) for _ in range(draw.below(5))]
    return config


def cohere(draw):
    heads = draw.between(1, 4)
    vocabulary = draw.between(12, 60)
    return {
        "vocab_size": vocabulary,
        "hidden_size": heads * draw.between(4, 10),
        "num_hidden_layers": draw.between(1, 3),
        "num_attention_heads": heads,
        "intermediate_size": draw.between(1, 40),
        "hidden_act": draw.of("relu", "relu", "gelu", "silu", "swish", "relu" if draw.below(3) else "tanh"),
        "max_position_embeddings": draw.between(10, 40),
        "attention_bias": draw.switch(),
        "tie_word_embeddings": draw.switch(),
        "pad_token_id": 2,
        "eos_token_id": draw.of(3, draw.below(vocabulary)),
        "bos_token_id": draw.of(4, draw.below(vocabulary)),
        "decoder_start_token_id": draw.of(None, draw.below(vocabulary)),
        "encoder_config": {**parakeet_encoder(draw), "model_type": "parakeet_encoder"},
    }


CONFIGURATIONS = {
    "lasr_ctc": lasr,
    "parakeet_ctc": parakeet_ctc,
    "parakeet_rnnt": parakeet_rnnt,
    "parakeet_tdt": parakeet_tdt,
    "wav2vec2": wav2vec2_base,
    "hubert": hubert,
    "wav2vec2-conformer": wav2vec2_conformer,
    "wav2vec2-bert": wav2vec2_bert,
    "whisper": whisper,
    "cohere_asr": cohere,
}
