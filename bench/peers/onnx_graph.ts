/** Builds ONNX models node by node; the protobuf fields are written by hand because they are few. Source: onnx.proto of ONNX 1.16. */

const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;
/** TensorProto.DataType */
const dataTypes = { float32: 1, uint8: 2, int8: 3, int64: 7 } as const;
/** Operators that ONNX Runtime adds to the standard ones. */
const contributed: ReadonlySet<string> = new Set(["DynamicQuantizeMatMul", "MatMulNBits"]);
const contributedDomain = "com.microsoft";
const attributeTypes = { float: 1, int: 2, ints: 7 } as const;

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

const key = (field: number, wire: number): Buffer => Buffer.from(varint(field * 8 + wire));
const integer = (field: number, value: number): Buffer => Buffer.concat([key(field, VARINT), Buffer.from(varint(value))]);

function bytes(field: number, content: Buffer | string): Buffer {
  const buffer = typeof content === "string" ? Buffer.from(content) : content;
  return Buffer.concat([key(field, BYTES), Buffer.from(varint(buffer.length)), buffer]);
}

const message = (field: number, ...parts: Buffer[]): Buffer => bytes(field, Buffer.concat(parts));

function float(field: number, value: number): Buffer {
  const four = Buffer.alloc(4);
  four.writeFloatLE(value);
  return Buffer.concat([key(field, FIXED32), four]);
}

/** A whole number from 0, several of them, or a floating-point number. */
export type OnnxAttribute = { readonly int: number } | { readonly ints: readonly number[] } | { readonly float: number };

/** Extents; a name for one that differs between calls. */
export type OnnxShape = readonly (number | string)[];

export class OnnxGraph {
  private readonly parts: Buffer[] = [];
  private count = 0;

  /** A constant. BigInt64Array for shapes, Int8Array and Uint8Array for quantized weights. */
  constant(values: Float32Array | Int8Array | Uint8Array | readonly number[], shape: readonly number[]): string {
    const name = this.name("constant");
    const typed = Array.isArray(values)
      ? BigInt64Array.from(values as number[], BigInt)
      : (values as Float32Array | Int8Array | Uint8Array);
    const bytesOf = typed instanceof Int8Array ? "int8" : typed instanceof Uint8Array ? "uint8" : "int64";
    const type = typed instanceof Float32Array ? "float32" : bytesOf;
    const raw = Buffer.from(typed.buffer, typed.byteOffset, typed.byteLength);
    // GraphProto.initializer = 5; TensorProto {dims = 1, data_type = 2, name = 8, raw_data = 9}
    this.parts.push(message(5, ...shape.map((extent) => integer(1, extent)), integer(2, dataTypes[type]), bytes(8, name), bytes(9, raw)));
    return name;
  }

  /** A node with one output or several; returns their names. */
  nodes(op: string, inputs: readonly string[], attributes: Readonly<Record<string, OnnxAttribute>> = {}, outputs = 1): string[] {
    const names = Array.from({ length: outputs }, () => this.name(op));
    this.named(op, inputs, names, attributes);
    return names;
  }

  node(op: string, inputs: readonly string[], attributes?: Readonly<Record<string, OnnxAttribute>>): string {
    return this.nodes(op, inputs, attributes)[0] as string;
  }

  /** A node whose outputs have these names. */
  named(op: string, inputs: readonly string[], outputs: readonly string[], attributes: Readonly<Record<string, OnnxAttribute>> = {}): void {
    // GraphProto.node = 1; NodeProto {input = 1, output = 2, op_type = 4, attribute = 5, domain = 7}
    const fields = Object.entries(attributes).map(([name, value]) => message(5, bytes(1, name), attribute(value)));
    this.parts.push(
      message(
        1,
        ...inputs.map((name) => bytes(1, name)),
        ...outputs.map((name) => bytes(2, name)),
        bytes(4, op),
        ...fields,
        ...(contributed.has(op) ? [bytes(7, contributedDomain)] : []),
      ),
    );
  }

  /** The model with float32 inputs and outputs of these shapes. */
  model(inputs: Readonly<Record<string, OnnxShape>>, outputs: Readonly<Record<string, OnnxShape>>): Uint8Array {
    const values = (field: number, shapes: Readonly<Record<string, OnnxShape>>): Buffer[] =>
      Object.entries(shapes).map(([name, shape]) => valueInfo(field, name, shape));
    const graph = message(7, ...this.parts, bytes(2, "graph"), ...values(11, inputs), ...values(12, outputs));
    // ModelProto {ir_version = 1, graph = 7, opset_import = 8 {domain = 1, version = 2}}
    return Buffer.concat([integer(1, 8), graph, message(8, integer(2, 17)), message(8, bytes(1, contributedDomain), integer(2, 1))]);
  }

  private name(kind: string): string {
    return `${kind}_${this.count++}`;
  }
}

// AttributeProto {name = 1, f = 2, i = 3, ints = 8, type = 20}
function attribute(value: OnnxAttribute): Buffer {
  if ("float" in value) return Buffer.concat([float(2, value.float), integer(20, attributeTypes.float)]);
  if ("int" in value) return Buffer.concat([integer(3, value.int), integer(20, attributeTypes.int)]);
  return Buffer.concat([...value.ints.map((item) => integer(8, item)), integer(20, attributeTypes.ints)]);
}

// ValueInfoProto {name = 1, type = 2 {tensor_type = 1 {elem_type = 1, shape = 2 {dim = 1 {dim_value = 1, dim_param = 2}}}}}
function valueInfo(field: number, name: string, shape: OnnxShape): Buffer {
  const dimensions = shape.map((extent) => message(1, typeof extent === "number" ? integer(1, extent) : bytes(2, extent)));
  return message(field, bytes(1, name), message(2, message(1, integer(1, dataTypes.float32), message(2, ...dimensions))));
}
