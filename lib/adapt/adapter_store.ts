/** The adapters of a folder, one folder for each speaker: read when somebody asks for them, and kept as long as there is room. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { unreadableFile } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import type { Adapter } from "./adapter.js";
import type { AdapterBase } from "./adapter_base.js";
import { adapterFiles, readAdapter } from "./adapter_file.js";
import { isSpeakerName, speakerNameRule } from "./speaker_name.js";

/** An adapter that somebody uses: it stays in memory until it is released. */
export interface AdapterLease {
  readonly adapter: Adapter;
  /** Safe to call twice. */
  release(): void;
}

interface Resident {
  readonly adapter: Adapter;
  /** Tells versions of its files apart. */
  readonly stamp: string;
  users: number;
  /** Nobody new gets it. */
  retired: boolean;
}

/** Adapters that a store keeps, unless told otherwise. */
const defaultMaximumResident = 64;

/**
 * The adapters of a folder by speaker: the least recently used ones leave memory when there are too many.
 *
 * @example
 * const store = new AdapterStore("adapters", new AdapterBase(model));
 * const { adapter, release } = store.lease("ann");
 */
export class AdapterStore {
  /** The least recently used first. */
  private readonly residents = new Map<string, Resident>();

  /**
   * @param folder of folders that {@link writeAdapter} or PEFT wrote, each named after its speaker
   * @throws UsmLiteError FILE_NOT_FOUND when there is no such folder, FILE_UNREADABLE when it is a file
   */
  constructor(
    readonly folder: string,
    private readonly base: AdapterBase,
    private readonly maximumResident = defaultMaximumResident,
  ) {
    if (!existsSync(folder))
      throw new UsmLiteError("FILE_NOT_FOUND", `folder of adapters ${folder} does not exist; make it, empty if need be`);
    if (!statSync(folder).isDirectory()) throw new UsmLiteError("FILE_UNREADABLE", `${folder} is a file; name a folder of adapters`);
  }

  /** Speakers that have an adapter, in the order of their names. @throws UsmLiteError when the folder can no longer be read */
  speakers(): string[] {
    return this.names()
      .filter((name) => isSpeakerName(name) && existsSync(join(this.folder, name, adapterFiles.config)))
      .sort();
  }

  /** Adapters in memory that new requests would get. */
  get resident(): number {
    return this.residents.size;
  }

  /** Bytes of these. */
  get residentBytes(): number {
    return [...this.residents.values()].reduce((sum, { adapter }) => sum + adapter.bytes, 0);
  }

  /**
   * The adapter of a speaker as its files are now: one that was exchanged is read anew, while who has the old one keeps it.
   * @throws UsmLiteError INVALID_ARGUMENT for what is no name of a speaker, UNKNOWN_SPEAKER, and as {@link readAdapter}
   */
  lease(speaker: string): AdapterLease {
    if (!isSpeakerName(speaker)) {
      throw new UsmLiteError("INVALID_ARGUMENT", `${JSON.stringify(speaker.slice(0, 200))} is no name of a speaker; ${speakerNameRule}`);
    }
    const stamp = this.stampOf(speaker);
    let resident = this.residents.get(speaker);
    if (resident && resident.stamp !== stamp) {
      this.retire(speaker, resident);
      resident = undefined;
    }
    if (stamp === undefined) throw new UsmLiteError("UNKNOWN_SPEAKER", `there is no adapter of speaker "${speaker}"`);
    resident ??= this.load(speaker, stamp);
    this.residents.delete(speaker);
    this.residents.set(speaker, resident); // the last that may go
    resident.users++;
    this.evict();
    return this.leaseOf(resident);
  }

  /** Lets go of all adapters that nobody uses; the others go when they are released. */
  dispose(): void {
    for (const [speaker, resident] of [...this.residents]) this.retire(speaker, resident);
  }

  private leaseOf(resident: Resident): AdapterLease {
    let released = false;
    return {
      adapter: resident.adapter,
      release: () => {
        if (released) return;
        released = true;
        resident.users--;
        if (resident.retired && resident.users === 0) resident.adapter.dispose();
      },
    };
  }

  /** Reads again when the files changed meanwhile, so that parts of two versions are never taken for one. */
  private load(speaker: string, stamp: string): Resident {
    for (let attempt = 1; ; attempt++) {
      let adapter: Adapter | undefined;
      let failure: unknown;
      try {
        adapter = readAdapter(join(this.folder, speaker), this.base);
      } catch (error) {
        failure = error;
      }
      const after = this.stampOf(speaker);
      if (after === stamp || after === undefined || attempt === 3) {
        if (adapter) return { adapter, stamp, users: 0, retired: false };
        throw failure;
      }
      adapter?.dispose();
      stamp = after;
    }
  }

  private names(): string[] {
    try {
      return readdirSync(this.folder);
    } catch (error) {
      throw unreadableFile(this.folder, error);
    }
  }

  private evict(): void {
    while (this.residents.size > this.maximumResident) {
      const [oldest] = this.residents;
      this.retire(...(oldest as [string, Resident]));
    }
  }

  private retire(speaker: string, resident: Resident): void {
    this.residents.delete(speaker);
    resident.retired = true;
    if (resident.users === 0) resident.adapter.dispose();
  }

  private stampOf(speaker: string): string | undefined {
    const stamps = Object.values(adapterFiles).map((file) => {
      try {
        const found = statSync(join(this.folder, speaker, file), { bigint: true });
        return found.isFile() ? `${found.ino}:${found.size}:${found.mtimeNs}` : undefined;
      } catch {
        return undefined; // it is not there, or what should be its folder is a file
      }
    });
    return stamps.includes(undefined) ? undefined : stamps.join();
  }
}
