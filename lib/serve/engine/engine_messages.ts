/** What is said between the server and the engine process that holds the recognition workers. */
import type { WorkerAnswer, WorkerOptions, WorkerRequest } from "../../transcribe/worker_messages.js";

export interface EngineOptions extends WorkerOptions {
  /** Worker threads, which share one copy of the packed weights. */
  readonly workers: number;
}

export type ToEngine =
  | { readonly kind: "start"; readonly options: EngineOptions }
  | { readonly kind: "request"; readonly worker: number; readonly request: WorkerRequest };

export type FromEngine =
  | { readonly kind: "answer"; readonly worker: number; readonly answer: WorkerAnswer }
  /** A worker ended by itself, with whatever it was working on; another takes its place and says `ready`. */
  | { readonly kind: "lost"; readonly worker: number; readonly message: string }
  | { readonly kind: "memory"; readonly residentBytes: number };
