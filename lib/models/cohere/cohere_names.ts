/** Published checkpoints of `cohere_asr` name their tensors after the program that trained them; transformers renames them when it loads. */

type Rule = readonly [published: RegExp, name: string];

const encoderRules: readonly Rule[] = [
  [/\.pre_encode\.conv\./, ".subsampling.layers."],
  [/\.pre_encode\.out\./, ".subsampling.linear."],
  [/\.self_attn\.linear_pos\./, ".self_attn.relative_k_proj."],
  [/\.self_attn\.linear_out\./, ".self_attn.o_proj."],
  [/\.self_attn\.linear_([qkv])\./, ".self_attn.$1_proj."],
  [/\.self_attn\.pos_bias_([uv])$/, ".self_attn.bias_$1"],
  [/\.conv\.batch_norm\./, ".conv.norm."],
];

const decoderRules: readonly Rule[] = [
  [/^transf_decoder\._embedding\.position_embedding\.pos_enc$/, "decoder.pos_emb.weight"],
  [/^transf_decoder\._embedding\.token_embedding\./, "decoder.embed_tokens."],
  [/^transf_decoder\._embedding\.layer_norm\./, "decoder.embedding_layernorm."],
  [/^transf_decoder\._decoder\.final_layer_norm\./, "decoder.norm."],
  [/^transf_decoder\._decoder\.layers\./, "decoder.layers."],
  [/^encoder_decoder_proj\./, "decoder.proj."],
  [/\.first_sub_layer\./, ".self_attn."],
  [/\.second_sub_layer\./, ".encoder_attn."],
  [/\.query_net\./, ".q_proj."],
  [/\.key_net\./, ".k_proj."],
  [/\.value_net\./, ".v_proj."],
  [/\.out_projection\./, ".o_proj."],
  [/\.third_sub_layer\.dense_in\./, ".mlp.fc1."],
  [/\.third_sub_layer\.dense_out\./, ".mlp.fc2."],
  [/\.layer_norm_1\./, ".input_layernorm."],
  [/\.layer_norm_2\./, ".post_attention_layernorm."],
  [/\.layer_norm_3\./, ".final_layernorm."],
];

/** The name in transformers of a tensor of a checkpoint, whichever of the two it has; a `_packed` or other ending stays. */
export function cohereName(name: string): string {
  if (/^(model\.)?log_softmax\.mlp\.layer0\./.test(name)) return name.replace(/^(model\.)?log_softmax\.mlp\.layer0\./, "proj_out.");
  if (name.startsWith("proj_out.")) return name;
  const inner = name.replace(/^model\./, "");
  const rules = inner.startsWith("encoder.") ? encoderRules : decoderRules;
  return `model.${rules.reduce((result, [published, own]) => result.replace(published, own), inner)}`;
}
