/** What is compressed has to be a float model. */
import type { Compression } from "../models/compression_config.js";
import { UsmLiteError } from "../errors.js";

/** @throws UsmLiteError BAD_CHECKPOINT when the model in `folder` is compressed already */
export function checkFloat({ specs }: Compression, folder: string): void {
  if (specs.size === 0) return;
  throw new UsmLiteError("BAD_CHECKPOINT", `${folder} is compressed already; compress the float model it was made from`);
}
