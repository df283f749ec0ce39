/** ggml in a process of its own; `USMLITE_GGML` names a folder with its source, built in `build` without shared libraries. */
import { join } from "node:path";
import { NativePeer } from "./native_peer.js";

export class Ggml {
  private constructor(private readonly peer: NativePeer) {}

  static compile(): { path: string } | { reason: string } {
    const folder = process.env["USMLITE_GGML"];
    if (!folder) return { reason: "USMLITE_GGML does not name a folder where it is built" };
    const libraries = ["ggml", "ggml-cpu", "ggml-base"].map((name) => join(folder, "build", "src", `lib${name}.a`));
    return NativePeer.compile("ggml", [`-I${join(folder, "include")}`, ...libraries, "-fopenmp", "-lpthread"], "nothing; build ggml");
  }

  static async start(path: string, threads: number): Promise<Ggml> {
    return new Ggml(await NativePeer.start(path, { GOMP_SPINCOUNT: "10000", OMP_WAIT_POLICY: "passive" }, [String(threads)]));
  }

  get impl(): string {
    return `ggml ${this.peer.introduction}`;
  }

  /** Milliseconds of each of `repetitions` products. @param type "tq2_0", "q4_0" */
  run(type: string, { m, n, k }: { m: number; n: number; k: number }, repetitions: number): Promise<number[]> {
    return this.peer.ask(`${type} ${m} ${n} ${k} ${repetitions}`);
  }

  stop(): void {
    this.peer.stop();
  }
}
