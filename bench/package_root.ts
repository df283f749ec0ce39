import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** dist/bench -> the folder of package.json */
export const packageRoot = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
