/** What speakers may be called: their adapters lie in folders of these names. A module of its own: servers need no more. */

/** No path, no hidden file, nothing that means something else to a file system. */
export const isSpeakerName = (name: string): boolean => /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(name);

/** For error messages. */
export const speakerNameRule = "names have up to 128 letters, digits, dots, hyphens and underscores and begin with a letter or digit";
