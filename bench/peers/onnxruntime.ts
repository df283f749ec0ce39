/** onnxruntime-node, where it can be resolved; it is no dependency of this package (NODE_PATH may point at it). */
import { createRequire } from "node:module";
import { matmulModel } from "./onnx_model.js";

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
  ): Promise<(inputs: Readonly<Record<string, { values: Float32Array; shape: readonly number[] }>>, output: string) => Promise<Float32Array>> {
    const session = await this.module.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1 });
    return async (inputs, output) => {
      const feeds = Object.entries(inputs).map(([name, { values, shape }]) => [name, new this.module.Tensor("float32", values, shape)] as const);
      return (await session.run(Object.fromEntries(feeds)))[output]?.data as Float32Array;
    };
  }

  /** A timed `x (m, k) · weight (k, n)`. */
  async matmul(
    shape: { m: number; k: number; n: number },
    values: { x: Float32Array; weight: Float32Array },
    threads: number,
  ): Promise<{ run(repetitions: number): Promise<number[]>; dispose(): void }> {
    const { m, k, n } = shape;
    const session = await this.module.InferenceSession.create(matmulModel(m, k, n, values.weight), {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
    });
    const x = new this.module.Tensor("float32", values.x, [m, k]);
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
