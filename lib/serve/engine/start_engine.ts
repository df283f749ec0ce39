/** An engine as the options of the service ask for it. */
import { availableParallelism } from "node:os";
import { defaultModelFolder } from "../../models/default_model.js";
import type { ResolvedServeOptions } from "../serve_options.js";
import { Engine, maximumThreads, type EngineEvents } from "./engine.js";

/** @param servedLanguage absent unless it was given, not only assumed @throws UsmLiteError as {@link Engine.start} */
export function startEngine(
  options: ResolvedServeOptions,
  servedLanguage: string | undefined,
  events: EngineEvents,
  signal?: AbortSignal,
): Promise<Engine> {
  const { device, arithmetic, batchInvariant, adapters, decoder, beamWidth, maximumBatch, maximumWaitMs, maximumAudioSeconds } = options;
  const cores = availableParallelism();
  return Engine.start(
    {
      model: options.model ?? defaultModelFolder,
      workers: options.workers ?? cores,
      maximumBatch,
      maximumWaitMs,
      maximumSeconds: maximumAudioSeconds,
      ...(adapters === undefined ? {} : { adapters }),
      ...(servedLanguage === undefined ? {} : { servedLanguage }),
      ...(device ? { device } : {}),
      ...(arithmetic ? { arithmetic } : {}),
      ...(batchInvariant === undefined ? {} : { batchInvariant }),
      ...(decoder ? { decoder } : {}),
      ...(beamWidth === undefined ? {} : { beamWidth }),
    },
    options.threads ?? Math.min(cores, maximumThreads),
    events,
    signal,
  );
}
