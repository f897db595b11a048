// What goes wrong, as classes with codes.
//
// The close reasons are the gateway's own, from src/protocol/close.rs; a test compares them.

/** @typedef {"now" | "later" | "never"} Advice */

/**
 * By code: the reason, whether to come back, and a sentence.
 * @type {Record<number, [reason: string, advice: Advice, sentence: string]>}
 */
export const CLOSE_REASONS = {
  1000: ["ended", "never", "the session has ended"],
  1002: ["broken_framing", "never", "the WebSocket framing is broken"],
  4000: ["drain", "now", "the gateway is restarting"],
  4002: ["too_slow", "later", "the connection does not keep up"],
  4003: ["log_reset", "now", "the room's log began anew"],
  4004: ["heartbeat_lost", "now", "nothing was heard in time"],
  4005: ["rate_limit_abuse", "later", "too much was refused"],
  4007: ["store_unavailable", "later", "the store cannot take the seat now"],
  4500: ["auth_failed", "never", "the token was refused"],
  4501: ["token_expired", "never", "the token has expired"],
  4502: ["forbidden", "never", "this room is not open to you"],
  4503: ["no_hello", "never", "no hello came in time"],
  4504: ["protocol_error", "never", "that is not the protocol"],
  4505: ["room_deleted", "never", "the room was deleted"],
  4506: ["room_full", "never", "the room is full"],
  4507: ["kicked", "never", "an operator ended the session"],
  4508: ["taken_over", "never", "another connection took the seat"],
  4510: ["message_too_large", "never", "the frame is over the message limit"],
};

export const AUTH_FAILED = 4500;
export const TOKEN_EXPIRED = 4501;
export const TAKEN_OVER = 4508;

export class DormouseError extends Error {
  /** @override */
  name = "DormouseError";

  /**
   * @param {string} code
   * @param {string} message
   * @param {{ cause?: unknown }} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.code = code;
  }
}

export class CloseError extends DormouseError {
  /** @override */
  name = "CloseError";

  /**
   * @param {number} closeCode
   * @param {string} [reason]
   * @param {number} [retryAfter]
   */
  constructor(closeCode, reason, retryAfter) {
    // Of a code that is newer than this client, its family says what to do.
    const family = /** @type {const} */ (["unknown", closeCode >= 4500 ? "never" : "later", "the gateway ended the session"]);
    const [slug, advice, sentence] = CLOSE_REASONS[closeCode] ?? family;
    super(reason || slug, sentence);
    this.closeCode = closeCode;
    this.advice = advice;
    this.retryAfter = retryAfter;
  }
}

export class RequestError extends DormouseError {
  /** @override */
  name = "RequestError";
}
