/** Loads the compiled addon. Each group of operations types the functions it uses itself. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { UsmLiteError } from "../errors.js";

/** `USMLITE_NATIVE_PATH` names the file; `USMLITE_EMULATE_GPU=1` asks for the one with an emulated GPU, for tests. */
function addonPath(): string {
  const override = process.env["USMLITE_NATIVE_PATH"];
  if (override) return override;
  // dist/lib/native -> package root
  const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
  const emulated = process.env["USMLITE_EMULATE_GPU"] === "1";
  const name = emulated ? "usm_lite_emulator.node" : "usm_lite.node";
  const tried = [`build/Release/${name}`, `build/Debug/${name}`].map((path) => join(root, path));
  const found = tried.find((path) => existsSync(path));
  if (!found) {
    throw new UsmLiteError(
      "FILE_NOT_FOUND",
      `the native addon${emulated ? " with an emulated GPU" : ""} is not built: none of ${tried.join(", ")} exists; run "npm run build:native"`,
    );
  }
  return found;
}

/** The functions of the addon; cast it to the interface of the group in hand. */
export const addon: unknown = createRequire(import.meta.url)(addonPath());

(addon as { setErrorConstructor(constructor: typeof UsmLiteError): void }).setErrorConstructor(UsmLiteError);
