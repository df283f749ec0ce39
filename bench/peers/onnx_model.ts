/** A model of one product. */
import { OnnxGraph } from "./onnx_graph.js";

/** `y (m, n) = x (m, k) · weight (k, n)` with a constant weight. */
export function matmulModel(m: number, k: number, n: number, weight: Float32Array): Uint8Array {
  const graph = new OnnxGraph();
  graph.named("MatMul", ["x", graph.constant(weight, [k, n])], ["y"]);
  return graph.model({ x: [m, k] }, { y: [m, n] });
}
