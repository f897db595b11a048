// Small TypeScript projects that use the client, one for each setting that is supported: they
// compile as an application's would, the declarations included.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const CLIENT = fileURLToPath(new URL("..", import.meta.url));
const TYPES = fileURLToPath(new URL("../../node_modules/@types/", import.meta.url));

/** What both kinds of project have: everything that may be left out is there, and undefined. */
const PROGRAM = `
import { CloseError, DormouseError, connect, type Message, type Options, type Room, type TextStorage } from "dormouse-client";
import { useRoom, type RoomState } from "dormouse-client/react";

export function enter(gateway: string | URL | undefined, text: string | undefined, signal: AbortSignal | undefined): Room {
  const kept = new Map<string, string>();
  const save: TextStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value) };
  const number: number | undefined = Math.random() > 0.5 ? 1 : undefined;
  const options: Options = {
    gateway, name: text, attachment: undefined, tags: undefined, token: text, history: number, presence: undefined,
    watch: undefined, transport: undefined, session: text, since: undefined, save, outbox: number, buffer: number,
    signal, WebSocket: undefined, WebTransport: undefined,
  };
  return connect("lobby", { ...options, save: Math.random() > 0.5 ? save : undefined, token: async () => "…" });
}

export async function use(room: Room, key: string | undefined, signal: AbortSignal | undefined): Promise<Message[]> {
  room.on("status", ({ error }) => error instanceof CloseError && console.log(error.advice), { signal });
  const { seq } = await room.publish({ text: "hi" }, { key, signal });
  await room.publish("psst", { to: { tag: "mod" }, signal });
  await room.set({ tags: undefined });
  const { more } = await room.listMembers({ after: key, limit: undefined });
  for await (const { gap } of room.messages({ signal })) if (gap?.lost === seq || more) break;
  const { messages } = await room.history({ before: undefined, after: undefined, limit: undefined });
  return messages;
}

export function show(gateway: string | undefined): string {
  const { status, members }: RoomState = useRoom("lobby", { gateway });
  const error: DormouseError | undefined = status.error;
  return error?.code ?? String(members.filter((member) => !member.away).length);
}
`;

const WITH_STORAGE = `
import { connect } from "dormouse-client";
export const rooms = [connect("one", { save: localStorage }), connect("two", { save: sessionStorage }), connect("three", { save: true })];
`;

/** @type {Record<string, ts.CompilerOptions>} */
const RESOLUTIONS = {
  node16: { module: ts.ModuleKind.Node16, moduleResolution: ts.ModuleResolutionKind.Node16 },
  bundler: { module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler },
};

/** @type {Record<string, { lib: string[], node?: string, more?: string }>} */
const PLATFORMS = {
  "node 18 and no DOM": { lib: ["lib.es2022.d.ts"], node: "node-18" },
  "node 20 and no DOM": { lib: ["lib.es2022.d.ts"], node: "node-20" },
  "node 22 and no DOM": { lib: ["lib.es2022.d.ts"], node: "node-22" },
  "the DOM": { lib: ["lib.es2022.d.ts", "lib.dom.d.ts"], more: WITH_STORAGE },
};

for (const [platform, { lib, node, more }] of Object.entries(PLATFORMS)) {
  for (const [resolution, how] of Object.entries(RESOLUTIONS)) {
    test(`a strict project with ${platform} compiles, resolution ${resolution}`, async (t) => {
      const project = await mkdtemp(join(tmpdir(), "dormouse-project-"));
      t.after(() => rm(project, { recursive: true }));
      await link(CLIENT, join(project, "node_modules/dormouse-client"));
      if (node) await link(join(TYPES, node), join(project, "node_modules/@types/node"));
      await writeFile(join(project, "package.json"), '{ "type": "module" }');
      const files = { "main.ts": PROGRAM, ...(more && { "more.ts": more }) };
      for (const [name, text] of Object.entries(files)) await writeFile(join(project, name), text);
      const options = {
        ...how, lib, strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noEmit: true,
        target: ts.ScriptTarget.ES2022, types: node ? ["node"] : [], typeRoots: [join(project, "node_modules/@types")],
      };
      const program = ts.createProgram(Object.keys(files).map((name) => join(project, name)), options);
      const faults = ts.getPreEmitDiagnostics(program);
      const host = { getCurrentDirectory: () => project, getCanonicalFileName: (/** @type {string} */ name) => name, getNewLine: () => "\n" };
      assert.equal(ts.formatDiagnostics(faults, host), "");
      const declared = program.getSourceFiles().map(({ fileName }) => fileName);
      assert.ok(declared.includes(join(CLIENT, "dormouse.d.ts")), "it is the client's own declarations that were checked");
    });
  }
}

/** @param {string} target @param {string} path */
async function link(target, path) {
  await mkdir(dirname(path), { recursive: true });
  await symlink(target, path);
}
