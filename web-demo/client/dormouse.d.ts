// The types of Dormouse's client: what docs/client.md tells, in full.
//
// Written by hand, so that it reads like a reference; `tsc` checks that the sources are what is
// declared here.

/**
 * Joins a room and stays in it, through naps of the laptop, restarts of the gateway and changes
 * of transport, until it is closed. Returns at once; `room.ready` tells when it is there.
 *
 * Throws a `DormouseError` when it can never work: `bad_name`, `no_gateway`, `no_websocket`,
 * `unsupported`, `bad_request` for an option that the gateway would refuse. Throws a `TypeError`
 * for an attachment that is no JSON.
 */
export declare function connect(room: string, options?: Options): Room;

export interface Options {
  /**
   * The gateway's address: `http:` or `https:` (`ws:` and `wss:` mean the same), a host, and the
   * path before `/rooms` if there is one; in a page, a path alone is one of the page's origin.
   * Default: the origin where this file came from, which in a bundle is the page's.
   */
  gateway?: string | URL | undefined;
  /** What others see. At most 64 characters. */
  name?: string | undefined;
  /** What else others should know, as JSON of at most 16 KiB. */
  attachment?: unknown;
  /** Labels for direct messages, at most ten. */
  tags?: string[] | undefined;
  /**
   * A token, or what gives one. A function is asked before the first `hello`, when the gateway
   * says that a token is no longer good, and a minute before a JWT's `exp`.
   */
  token?: string | (() => string | Promise<string>) | undefined;
  /** How many messages of the past to begin with: 0 to 1,000, default 100. */
  history?: number | undefined;
  /** How much to hear of who is here. Default `"auto"`: everybody while the room is small. */
  presence?: "auto" | "full" | "count" | undefined;
  /** Whether to hear when the room falls asleep and wakes. */
  watch?: boolean | undefined;
  /** Default `"auto"`: WebTransport where it works, else WebSocket. */
  transport?: "auto" | Transport | undefined;
  /** From an earlier `room.session`: takes that seat back. */
  session?: string | undefined;
  /** From an earlier `room.position`: continues behind it. */
  since?: Position | undefined;
  /**
   * Keeps seat and position over a reload: `true` in `localStorage`, or anything like it. Then a
   * new page begins behind the last message that this one has processed.
   */
  save?: boolean | TextStorage | undefined;
  /** How many publishes may wait for the gateway. Default 256; more are refused. */
  outbox?: number | undefined;
  /** How many messages are kept for `messages()`. Default 1,000; the rest is fetched again. */
  buffer?: number | undefined;
  /** Closes the room when aborted. */
  signal?: AbortSignal | undefined;
  /** A WebSocket for where there is none, as in node 20. */
  WebSocket?: unknown;
  /** A WebTransport other than the browser's. */
  WebTransport?: unknown;
}

/** Where texts are kept: `localStorage`, `sessionStorage`, or anything like them. What throws keeps nothing. */
export interface TextStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

export type Transport = "webtransport" | "websocket";

/** A place in a room's log: everything up to and including `seq` lies behind it. */
export interface Position {
  epoch: string;
  seq: number;
}

/** Who said something. */
export interface Author {
  sid: string;
  user: string | null;
  name: string;
}

export interface Message {
  seq: number;
  /** Milliseconds since 1970, by the gateway's clock. */
  time: number;
  from: Author;
  /** Any JSON, or a `Uint8Array`. */
  data: any;
  /** Whether this client said it. */
  own: boolean;
  /** There where messages are missing right before this one. */
  gap?: Gap;
}

/** A message for a few: it has no `seq` and is not kept. */
export type Direct = Omit<Message, "seq" | "gap">;

/** Messages that will not come. */
export interface Gap {
  /** `epoch`: another log; `retention`: no longer kept; `hole`: they never arrived. */
  why: "epoch" | "retention" | "hole";
  /** The newest that did come before. */
  after: number;
  /** How many; unknown when the log is another one. */
  lost?: number;
}

export interface Member {
  sid: string;
  user: string | null;
  name: string;
  tags: string[];
  attachment: any;
  /** When the seat was taken, in milliseconds since 1970. */
  since: number;
  /** Its connection is lost and may yet come back. */
  away?: boolean;
}

/** Who is here, by `sid`: always as the gateway last told. */
export interface Members extends ReadonlyMap<string, Member> {
  /** How many are here, known or not. */
  readonly count: number;
  /** Whether everybody is known. Of a large room only the number is told, unless asked for. */
  readonly isWhole: boolean;
}

export interface PresenceChange {
  joined: Member[];
  updated: Member[];
  left: string[];
  /**
   * The list was told anew, as after every return. Then `joined` are those who were not known
   * before, `updated` those who were, and `left` those who are no longer there.
   */
  reset: boolean;
  count: number;
}

export interface Ephemeral {
  key: string;
  /** The `sid` of its author. */
  from: string;
  data: any;
}

/** How the room is; `asleep` and `awake` are told to those who `watch`. */
export interface Mood {
  state: "asleep" | "awake" | "degraded" | "well";
  woke_in_us?: number;
  cause?: string;
  sleeps_in_ms?: number;
  retry_after?: number;
}

export interface Status {
  state: "connecting" | "live" | "reconnecting" | "paused" | "closed";
  transport: Transport | null;
  /** Why it is not live, if there is more to say than that it never was. */
  error?: DormouseError;
  /** When it tries again, in milliseconds from now. */
  retryIn?: number;
}

/** It was away, and is live again. */
export interface Return {
  /** How many messages came that were said meanwhile. */
  missed: number;
  /** How many did not. */
  lost: number;
  /** For how many milliseconds. */
  away: number;
  /** Why the log could not go on where it was left. */
  why?: Gap["why"];
}

export interface Events {
  status: Status;
  message: Message;
  direct: Direct;
  gap: Gap;
  back: Return;
  presence: PresenceChange;
  ephemeral: Ephemeral;
  mood: Mood;
  /** The gateway refused what has no answer, such as an ephemeral. */
  trouble: DormouseError;
  /** How many publishes wait, and whether another would be refused. */
  outbox: { waiting: number; full: boolean };
}

export interface Published {
  seq: number;
  /** It had been there already: an earlier try with the same key got through. */
  dup: boolean;
}

export interface Reached {
  /** How many connections it went to. */
  reached: number;
}

export type To = { sid: string } | { user: string } | { tag: string };

export interface Page {
  /** Oldest first. */
  messages: Message[];
  /** Whether there is more in that direction. */
  more: boolean;
}

export interface Room {
  readonly name: string;
  readonly status: Status;
  /** Resolves when it is live for the first time; rejects when it is closed before. */
  readonly ready: Promise<void>;
  /** The seat's id, once there is a seat. */
  readonly sid: string | undefined;
  /** Takes the seat back, also in another page. Whoever has it is you. */
  readonly session: string | undefined;
  /** How far the log has been heard. */
  readonly position: Position | undefined;
  readonly members: Members;
  /** The newest round trip in milliseconds, measured by pings. */
  readonly rtt: number | undefined;
  /** How many publishes wait for their answer. */
  readonly waiting: number;

  /**
   * Every message once and in order: first what the client has, then what comes. As slow as its
   * reader. It ends when the room is closed, and throws when the gateway closed it. `return` and
   * `throw` end it at once, also while a `next` waits.
   */
  messages(options?: { signal?: AbortSignal | undefined }): AsyncIterableIterator<Message>;
  /** Calls `listener` for every event of that type; what it returns ends that. */
  on<K extends keyof Events>(type: K, listener: (event: Events[K]) => void, options?: { signal?: AbortSignal | undefined }): () => void;

  /** Says something to a few. Resolves when it is on its way to them; never sent twice. */
  publish(data: unknown, options: { to: To; signal?: AbortSignal | undefined }): Promise<Reached>;
  /**
   * Says something. Resolves when it is durable and in order, however often it had to be sent;
   * rejects when it will not be: at once, and alone, for what the gateway would refuse, and with
   * a `TypeError` for what is no JSON. `key`: two publishes with the same take effect once.
   */
  publish(data: unknown, options?: { key?: string | undefined; signal?: AbortSignal | undefined }): Promise<Published>;
  /**
   * Shows the others something that may be lost: of each key only the newest counts. Throws for
   * what the gateway would refuse, also while there is no connection.
   */
  ephemeral(key: string, data: unknown): void;
  /** Changes what others know of this seat. Resolves when that is durable. */
  set(change: { attachment?: unknown; tags?: string[] | undefined }): Promise<void>;
  /** A page of the log: the newest, or those before or after a `seq`. */
  history(options?: { before?: number | undefined; after?: number | undefined; limit?: number | undefined }): Promise<Page>;
  /** A page of who is here, for rooms too large for `members`. */
  listMembers(options?: { after?: string | undefined; limit?: number | undefined }): Promise<{ members: Member[]; more: boolean }>;

  /** Changes the transport now, missing nothing. */
  use(transport: "auto" | Transport): void;
  /** Lets go of the connection and keeps the seat for a while. */
  pause(): void;
  /**
   * Comes back: from a pause, from the wait before the next try, from a close by the gateway.
   * After `close()` it does nothing.
   */
  resume(): void;
  /** Gives the seat up, for good. What still waits is rejected with `closed`. */
  close(): Promise<void>;
}

/** All that goes wrong. `code` says what, docs/client.md what to do. */
export declare class DormouseError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: { cause?: unknown });
}

/** The gateway ended the session; `code` is the reason, as in `taken_over`. */
export declare class CloseError extends DormouseError {
  readonly closeCode: number;
  /** Whether to come back. The client has, unless this says `"never"`. */
  readonly advice: "now" | "later" | "never";
  readonly retryAfter: number | undefined;
  constructor(closeCode: number, reason?: string, retryAfter?: number);
}

/** The gateway refused a request; the session goes on. */
export declare class RequestError extends DormouseError {
  constructor(code: string, message: string);
}
