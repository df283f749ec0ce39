/** onnxruntime-node, where it can be resolved; it is no dependency of this package (NODE_PATH may point at it). */
import { createRequire } from "node:module";
import { values } from "../values.js";
import { dynamicQuantizeMatmulModel, matmulModel, matmulNBitsModel } from "./onnx_model.js";

interface OnnxTensor {
  readonly data?: unknown;
  dispose?(): void;
}

interface OnnxSession {
  run(feeds: Record<string, OnnxTensor>): Promise<Record<string, OnnxTensor>>;
  release(): Promise<void>;
}

interface OnnxRuntimeModule {
  InferenceSession: { create(model: Uint8Array, options: object): Promise<OnnxSession> };
  Tensor: new (type: "float32", values: Float32Array, shape: readonly number[]) => OnnxTensor;
  env: { versions: { node?: string; common?: string } };
}

interface OnnxProduct {
  run(repetitions: number): Promise<number[]>;
  dispose(): void;
}

export class OnnxRuntime {
  private constructor(private readonly module: OnnxRuntimeModule) {}

  /** Undefined when it is not installed. */
  static load(): OnnxRuntime | undefined {
    try {
      return new OnnxRuntime(createRequire(import.meta.url)("onnxruntime-node") as OnnxRuntimeModule);
    } catch {
      return undefined;
    }
  }

  get impl(): string {
    return `onnxruntime-node ${this.module.env.versions.node ?? this.module.env.versions.common ?? ""}`;
  }

  /** Runs a model that takes and gives float32. */
  async session(
    model: Uint8Array,
    threads: number,
  ): Promise<
    (inputs: Readonly<Record<string, { values: Float32Array; shape: readonly number[] }>>, output: string) => Promise<Float32Array>
  > {
    const session = await this.module.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1 });
    return async (inputs, output) => {
      const feeds = Object.entries(inputs).map(
        ([name, { values, shape }]) => [name, new this.module.Tensor("float32", values, shape)] as const,
      );
      return (await session.run(Object.fromEntries(feeds)))[output]?.data as Float32Array;
    };
  }

  /** Timed products x (m, k) · weight (k, n), by weight spec; of these, those that this version can run. */
  async matmuls(shape: { m: number; k: number; n: number }, threads: number): Promise<({ spec: string } & OnnxProduct)[]> {
    const { m, k, n } = shape;
    const models: [spec: string, model: () => Uint8Array][] = [
      ["float32", () => matmulModel(shape, values(k * n))],
      ["int8-dynamic", () => dynamicQuantizeMatmulModel(shape)],
      ["int8/g128", () => matmulNBitsModel(shape, 8)],
      ["int4/g128", () => matmulNBitsModel(shape, 4)],
    ];
    const products: ({ spec: string } & OnnxProduct)[] = [];
    for (const [spec, model] of models) {
      try {
        products.push({ spec, ...(await this.product(model(), values(m * k), [m, k], threads)) });
      } catch {
        continue; // an operator or width that this version lacks
      }
    }
    return products;
  }

  private async product(model: Uint8Array, input: Float32Array, shape: readonly number[], threads: number): Promise<OnnxProduct> {
    const session = await this.module.InferenceSession.create(model, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      logSeverityLevel: 4,
    });
    const x = new this.module.Tensor("float32", input, shape);
    const run = async (repetitions: number): Promise<number[]> => {
      const times: number[] = [];
      for (let i = 0; i < repetitions; i++) {
        const begin = performance.now();
        await session.run({ x });
        times.push(performance.now() - begin);
      }
      return times;
    };
    return { run, dispose: () => void session.release() };
  }
}
