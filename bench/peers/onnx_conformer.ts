/**
 * One of our networks as an ONNX model for one utterance: what somebody who serves with onnxruntime would export. Weights
 * of linear layers in float32, or in int8 with inputs quantized while it runs, as onnxruntime's own tool writes them.
 */
import type { LasrForCtc } from "../../lib/models/lasr/lasr_for_ctc.js";
import { headDimension } from "../../lib/models/lasr/lasr_config.js";
import { OnnxGraph } from "./onnx_graph.js";

export type OnnxSpec = "float32" | "int8-dynamic";

const batchNormEpsilon = 1e-5;

/** `logits (hidden frames, tokens)` of `features (frames, mel bins)`; `cosine` and `sine` are {@link rotaryTables}. */
export function conformerModel(network: LasrForCtc, spec: OnnxSpec): Uint8Array {
  return new ConformerGraph(network, spec).model();
}

/** (hidden frames, head dimension): the angles of each half twice. */
export function rotaryTables(network: LasrForCtc, frames: number): { cosine: Float32Array; sine: Float32Array } {
  const { encoder_config: encoder } = network.config;
  const dimension = headDimension(encoder);
  const theta = encoder.rope_parameters?.rope_theta ?? 10_000;
  const angle = (index: number): number => Math.floor(index / dimension) * theta ** ((-2 * (index % (dimension / 2))) / dimension);
  const table = (of: (angle: number) => number): Float32Array =>
    Float32Array.from({ length: frames * dimension }, (_, index) => of(angle(index)));
  return { cosine: table(Math.cos), sine: table(Math.sin) };
}

class ConformerGraph {
  private readonly graph = new OnnxGraph();
  private readonly weights: ReadonlyMap<string, { readonly shape: readonly number[]; toArray(): Float32Array }>;

  constructor(
    private readonly network: LasrForCtc,
    private readonly spec: OnnxSpec,
  ) {
    this.weights = new Map([...network.parameters(), ...network.buffers()]);
  }

  model(): Uint8Array {
    const { encoder_config: encoder, vocab_size } = this.network.config;
    const { graph } = this;
    let x = graph.node("Relu", [this.linear("features", "encoder.subsampler.dense_0")]);
    x = graph.node("Unsqueeze", [graph.node("Transpose", [x], { perm: { ints: [1, 0] } }), graph.constant([0], [1])]);
    for (const name of ["conv_0", "conv_1"]) x = graph.node("Relu", [this.stridedConvolution(x, `encoder.subsampler.${name}`)]);
    x = graph.node("Transpose", [graph.node("Squeeze", [x, graph.constant([0], [1])])], { perm: { ints: [1, 0] } });
    x = this.linear(x, "encoder.subsampler.dense_1");
    for (let layer = 0; layer < encoder.num_hidden_layers; layer++) x = this.block(x, `encoder.layers.${layer}`);
    const dimension = headDimension(encoder);
    graph.named("Identity", [this.linear(this.norm(x, "encoder.out_norm"), "ctc_head")], ["logits"]);
    return graph.model(
      { features: ["frames", encoder.num_mel_bins], cosine: ["hidden", dimension], sine: ["hidden", dimension] },
      { logits: ["hidden", vocab_size] },
    );
  }

  private block(x: string, name: string): string {
    const { feed_forward_residual_weights: feedForward, conv_residual_weights: convolution } = this.network.config.encoder_config;
    x = this.residual(x, this.feedForward(this.norm(x, `${name}.norm_feed_forward1`), `${name}.feed_forward1`), feedForward);
    x = this.residual(x, this.attention(this.norm(x, `${name}.norm_self_att`), `${name}.self_attn`), [1, 1]);
    x = this.residual(x, this.convolution(this.norm(x, `${name}.norm_conv`), `${name}.conv`), convolution);
    x = this.residual(x, this.feedForward(this.norm(x, `${name}.norm_feed_forward2`), `${name}.feed_forward2`), feedForward);
    return this.norm(x, `${name}.norm_out`);
  }

  private feedForward(x: string, name: string): string {
    return this.linear(this.silu(this.linear(x, `${name}.linear1`)), `${name}.linear2`);
  }

  private attention(x: string, name: string): string {
    const { graph } = this;
    const { encoder_config: encoder } = this.network.config;
    const heads = encoder.num_attention_heads;
    const dimension = headDimension(encoder);
    const split = graph.constant([0, heads, dimension], [3]);
    const perHead = (part: string): string =>
      graph.node("Transpose", [graph.node("Reshape", [this.linear(x, `${name}.${part}`), split])], { perm: { ints: [1, 0, 2] } });
    const query = graph.node("Mul", [this.rotated(perHead("q_proj")), this.scalar(dimension ** -0.5)]);
    const key = graph.node("Transpose", [this.rotated(perHead("k_proj"))], { perm: { ints: [0, 2, 1] } });
    const probabilities = graph.node("Softmax", [graph.node("MatMul", [query, key])], { axis: { int: 2 } });
    const mixed = graph.node("Transpose", [graph.node("MatMul", [probabilities, perHead("v_proj")])], { perm: { ints: [1, 0, 2] } });
    return this.linear(graph.node("Reshape", [mixed, graph.constant([0, heads * dimension], [2])]), `${name}.o_proj`);
  }

  /** x cosine + (-second half, first half) sine */
  private rotated(x: string): string {
    const { graph } = this;
    const [first, second] = graph.nodes("Split", [x], { axis: { int: 2 } }, 2) as [string, string];
    const turned = graph.node("Concat", [graph.node("Neg", [second]), first], { axis: { int: 2 } });
    return graph.node("Add", [graph.node("Mul", [x, "cosine"]), graph.node("Mul", [turned, "sine"])]);
  }

  private convolution(x: string, name: string): string {
    const { graph } = this;
    const { hidden_size: hidden, conv_kernel_size: kernel } = this.network.config.encoder_config;
    const [value, gate] = graph.nodes("Split", [this.linear(x, `${name}.pointwise_conv1`)], { axis: { int: 1 } }, 2) as [string, string];
    const gated = graph.node("Mul", [value, graph.node("Sigmoid", [gate])]);
    const channelsFirst = graph.node("Unsqueeze", [graph.node("Transpose", [gated], { perm: { ints: [1, 0] } }), graph.constant([0], [1])]);
    // Batch normalization belongs into the weights before it, as exporters put it.
    const [scale, shift] = this.foldedNorm(name);
    const taps = this.values(`${name}.depthwise_conv.weight`).map((value, index) => value * (scale[Math.floor(index / kernel)] as number));
    const bias = this.weights.has(`${name}.depthwise_conv.bias`) ? this.values(`${name}.depthwise_conv.bias`) : new Float32Array(hidden);
    const biases = shift.map((value, channel) => value + (bias[channel] as number) * (scale[channel] as number));
    const left = Math.floor((kernel - 1) / 2);
    const convolved = graph.node("Conv", [channelsFirst, graph.constant(taps, [hidden, 1, kernel]), graph.constant(biases, [hidden])], {
      group: { int: hidden },
      pads: { ints: [left, kernel - 1 - left] },
    });
    const framesFirst = graph.node("Transpose", [graph.node("Squeeze", [convolved, graph.constant([0], [1])])], { perm: { ints: [1, 0] } });
    return this.linear(this.silu(framesFirst), `${name}.pointwise_conv2`);
  }

  private foldedNorm(name: string): [scale: Float32Array, shift: Float32Array] {
    const [weight, bias, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map((part) =>
      this.values(`${name}.norm.${part}`),
    ) as [Float32Array, Float32Array, Float32Array, Float32Array];
    const scale = weight.map((value, channel) => value / Math.sqrt((variance[channel] as number) + batchNormEpsilon));
    return [scale, bias.map((value, channel) => value - (mean[channel] as number) * (scale[channel] as number))];
  }

  private stridedConvolution(x: string, name: string): string {
    const weight = this.weight(`${name}.weight`);
    const { subsampling_conv_stride: stride } = this.network.config.encoder_config;
    const inputs = [x, this.graph.constant(weight.toArray(), weight.shape), this.bias(name) as string];
    return this.graph.node("Conv", inputs, { strides: { ints: [stride] } });
  }

  /** x Wᵀ + b */
  private linear(x: string, name: string): string {
    const weight = this.weight(`${name}.weight`);
    const [outputs, inputs] = weight.shape as [number, number];
    const values = weight.toArray();
    const transposed = Float32Array.from(values, (_, index) => values[(index % outputs) * inputs + Math.floor(index / outputs)] as number);
    const product =
      this.spec === "float32"
        ? this.graph.node("MatMul", [x, this.graph.constant(transposed, [inputs, outputs])])
        : this.integerProduct(x, transposed, inputs, outputs);
    const bias = this.bias(name);
    return bias === undefined ? product : this.graph.node("Add", [product, bias]);
  }

  private integerProduct(x: string, weight: Float32Array, inputs: number, outputs: number): string {
    const { graph } = this;
    const scales = new Float32Array(outputs);
    weight.forEach((value, index) => (scales[index % outputs] = Math.max(scales[index % outputs] as number, Math.abs(value) / 127)));
    const codes = Int8Array.from(weight, (value, index) => Math.round(value / ((scales[index % outputs] as number) || 1)));
    const [quantized, scale, zero] = graph.nodes("DynamicQuantizeLinear", [x], {}, 3) as [string, string, string];
    const sums = graph.node("MatMulInteger", [quantized, graph.constant(codes, [inputs, outputs]), zero]);
    const factors = graph.node("Mul", [scale, graph.constant(scales, [outputs])]);
    return graph.node("Mul", [graph.node("Cast", [sums], { to: { int: 1 } }), factors]);
  }

  private norm(x: string, name: string): string {
    const weight = this.weight(`${name}.weight`);
    const epsilon = { float: this.network.config.encoder_config.layer_norm_eps };
    return this.graph.node("LayerNormalization", [x, this.graph.constant(weight.toArray(), weight.shape)], { axis: { int: 1 }, epsilon });
  }

  /** residual weight · residual + weight · x */
  private residual(residual: string, x: string, [first, second]: readonly [number, number]): string {
    const scaled = (name: string, factor: number): string => (factor === 1 ? name : this.graph.node("Mul", [name, this.scalar(factor)]));
    return this.graph.node("Add", [scaled(residual, first), scaled(x, second)]);
  }

  private silu(x: string): string {
    return this.graph.node("Mul", [x, this.graph.node("Sigmoid", [x])]);
  }

  private scalar(value: number): string {
    return this.graph.constant(Float32Array.of(value), []);
  }

  private bias(name: string): string | undefined {
    const bias = this.weights.get(`${name}.bias`);
    return bias && this.graph.constant(bias.toArray(), bias.shape);
  }

  private weight(name: string): { readonly shape: readonly number[]; toArray(): Float32Array } {
    const weight = this.weights.get(name);
    if (!weight) throw new Error(`the network has no weight ${name}`);
    return weight;
  }

  private values(name: string): Float32Array {
    return this.weight(name).toArray();
  }
}
