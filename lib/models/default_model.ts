/** Where the model of this package lies. A module of its own: the command line needs it before it loads anything. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The model that ships with this package. */
export const defaultModelFolder = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..", "models", "default");
