/** Models of one product. */
import { OnnxGraph, type OnnxAttribute } from "./onnx_graph.js";

interface Shape {
  m: number;
  k: number;
  n: number;
}

function model(
  op: string,
  { m, k, n }: Shape,
  constants: (graph: OnnxGraph) => string[],
  attributes?: Readonly<Record<string, OnnxAttribute>>,
): Uint8Array {
  const graph = new OnnxGraph();
  graph.named(op, ["x", ...constants(graph)], ["y"], attributes);
  return graph.model({ x: [m, k] }, { y: [m, n] });
}

/** `y (m, n) = x (m, k) · weight (k, n)` with a constant weight. */
export function matmulModel(shape: Shape, weight: Float32Array): Uint8Array {
  return model("MatMul", shape, (graph) => [graph.constant(weight, [shape.k, shape.n])]);
}

/** The same with an int8 weight, one scale per channel, and activations rounded to bytes on the fly. */
export function dynamicQuantizeMatmulModel(shape: Shape): Uint8Array {
  const { k, n } = shape;
  const weight = Int8Array.from({ length: k * n }, (_, i) => ((i * 37) % 255) - 127);
  return model("DynamicQuantizeMatMul", shape, (graph) => [
    graph.constant(weight, [k, n]),
    graph.constant(new Float32Array(n).fill(0.01), [n]),
  ]);
}

/** Weights of `bits` bits in blocks of 128 inputs, the multiplication in whole numbers (accuracy level 4). */
export function matmulNBitsModel(shape: Shape, bits: number): Uint8Array {
  const { k, n } = shape;
  const block = 128;
  const blocks = Math.ceil(k / block);
  const weight = Uint8Array.from({ length: (n * blocks * block * bits) / 8 }, (_, i) => (i * 37) % 256);
  return model(
    "MatMulNBits",
    shape,
    (graph) => [
      graph.constant(weight, [n, blocks, (block * bits) / 8]),
      graph.constant(new Float32Array(n * blocks).fill(0.01), [n * blocks]),
    ],
    { K: { int: k }, N: { int: n }, bits: { int: bits }, block_size: { int: block }, accuracy_level: { int: 4 } },
  );
}
