/** The compiled addon. Each group of operations types the functions it uses itself. */
import { loadAddon } from "./load_addon.js";

/** The functions of the addon; cast it to the interface of the group in hand. */
export const addon: unknown = loadAddon();
