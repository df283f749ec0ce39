/** The system's locks of open files, flock(2). */
import { loadAddon } from "./load_addon.js";

interface FileLockBindings {
  lockFile(descriptor: number): "locked" | "busy" | "unsupported";
}

/**
 * Locks an open file or folder until it is closed, or its process ends. "busy" when it was opened, and is locked, elsewhere; "unsupported"
 * where the file system has no locks.
 */
export const lockFile = (descriptor: number): "locked" | "busy" | "unsupported" => (loadAddon() as FileLockBindings).lockFile(descriptor);
