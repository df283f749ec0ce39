/** Where the speech and the reference checkpoints lie that are too large for the repository. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder with `reference/` and `speech/`, or undefined when this machine has none: tests that need it skip. */
export function sharedFolder(): string | undefined {
  const packageRoot = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
  const folder = process.env["USMLITE_SHARED"] ?? join(packageRoot, "..", "shared");
  return existsSync(folder) ? folder : undefined;
}
