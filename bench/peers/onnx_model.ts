/** A one-node ONNX model, written by hand because it is a few protobuf fields. Source: onnx.proto of ONNX 1.16. */

const VARINT = 0;
const BYTES = 2;
const FLOAT = 1; // TensorProto.DataType

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

const integer = (field: number, value: number): Buffer => Buffer.from([...varint(field * 8 + VARINT), ...varint(value)]);

function bytes(field: number, content: Buffer | string): Buffer {
  const buffer = typeof content === "string" ? Buffer.from(content) : content;
  return Buffer.concat([Buffer.from([...varint(field * 8 + BYTES), ...varint(buffer.length)]), buffer]);
}

const message = (field: number, ...parts: Buffer[]): Buffer => bytes(field, Buffer.concat(parts));

// ValueInfoProto {name = 1, type = 2 {tensor_type = 1 {elem_type = 1, shape = 2 {dim = 1 {dim_value = 1}}}}}
function valueInfo(field: number, name: string, shape: readonly number[]): Buffer {
  const dimensions = shape.map((extent) => message(1, integer(1, extent)));
  return message(field, bytes(1, name), message(2, message(1, integer(1, FLOAT), message(2, ...dimensions))));
}

/** `y (m, n) = x (m, k) · weight (k, n)` with a constant weight. */
export function matmulModel(m: number, k: number, n: number, weight: Float32Array): Uint8Array {
  const raw = Buffer.from(weight.buffer, weight.byteOffset, weight.byteLength);
  const node = message(1, bytes(1, "x"), bytes(1, "weight"), bytes(2, "y"), bytes(4, "MatMul"));
  // TensorProto {dims = 1, data_type = 2, name = 8, raw_data = 9}
  const initializer = message(5, integer(1, k), integer(1, n), integer(2, FLOAT), bytes(8, "weight"), bytes(9, raw));
  const graph = message(7, node, bytes(2, "matmul"), initializer, valueInfo(11, "x", [m, k]), valueInfo(12, "y", [m, n]));
  // ModelProto {ir_version = 1, graph = 7, opset_import = 8 {version = 2}}
  return Buffer.concat([integer(1, 8), graph, message(8, integer(2, 17))]);
}
